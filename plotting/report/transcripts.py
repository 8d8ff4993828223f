"""Trials as compact data for the page: one script per run, loaded when it is wanted.

A script, not JSON to be fetched: browsers refuse to fetch from a page opened as a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from esr.analysis import metrics
from esr.analysis.outcomes import degraded, outcome_of
from esr.judge.lexical import restart_spans
from esr.judge.spans import Span, spans_of
from esr.runs.results import Trial
from plotting.sources import Source, arm_of


class Table:
    """Texts that recur, stored once: text -> number."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        """Place of a text in ``texts``."""
        if text not in self._numbers:
            self._numbers[text] = len(self.texts)
            self.texts.append(text)
        return self._numbers[text]


def run_data(run: Source) -> dict[str, Any]:
    """All judged trials of a run that have a response or an error.

    A trial is a list, in the order of ``fields``. Attempts are [score, start, end], with the
    quoted text in place of start and end where it does not stand in the response; a response is
    stored once.
    """
    prompts, labels, arms = Table(), Table(), Table()
    trials = []
    for trial in run.judged_trials:
        response = trial.response or ""
        trials.append(
            [
                trial.name,
                arms.number(arm_of(run, trial)),
                trial.latent,
                labels.number(trial.feature_label or ""),
                prompts.number(trial.prompt or ""),
                trial.threshold,
                trial.seed,
                str(outcome_of(trial).status),
                int(degraded(response)),
                response,
                _attempts(response, trial),
                [list(span) for span in utf16(response, restart_spans(response)) if span],
                trial.error or "",
            ]
        )
    return {
        "fields": FIELDS,
        "prompts": prompts.texts,
        "labels": labels.texts,
        "arms": arms.texts,
        "trials": trials,
    }


FIELDS = (
    *("id", "arm", "latent", "label", "prompt", "boost", "seed", "status", "degraded"),
    *("response", "attempts", "restarts", "error"),
)


def _attempts(response: str, trial: Trial) -> list[list[Any]]:
    spans = utf16(response, spans_of(trial))
    return [
        [attempt.score, *(span or (attempt.attempt_text,))]
        for attempt, span in zip(trial.attempts, spans, strict=True)
    ]


def utf16(response: str, spans: Sequence[Span | None]) -> Iterator[Span | None]:
    """Spans in characters as spans in UTF-16 units, as JavaScript counts."""
    if response.isascii() or not any(ord(c) > 0xFFFF for c in response):
        yield from spans
        return
    units = [0]
    for character in response:
        units.append(units[-1] + (2 if ord(character) > 0xFFFF else 1))
    for span in spans:
        yield None if span is None else (units[span[0]], units[span[1]])


def run_facts(run: Source, exclude_degraded: bool = False) -> dict[str, Any]:
    """What the page says of a run before its trials are loaded, the rates of each arm included."""
    arms = {}
    for name, outcomes in run.arms.items():
        kept = [o for o in outcomes if not (exclude_degraded and o.degraded)]
        summary: Mapping[str, Any] = metrics.summary(kept, run.seed)
        shown = {key: summary[key] for key in _SHOWN}
        arms[name] = {**shown, "left_out": len(outcomes) - len(kept)}
    return {
        "key": run.key,
        "experiment": run.experiment,
        "model": run.model,
        "title": run.title,
        "organism": run.organism,
        "run_id": run.run_id,
        "status": run.status,
        "judge": run.judge,
        "started": run.started,
        "family": run.family,
        "arms": arms,
        "trials": sum(len(outcomes) for outcomes in run.arms.values()),
        "file": f"transcripts/{run.key}.js",
    }


_SHOWN = ("counts", "multi_attempt_rate", "conditional_improvement_rate", "esr_rate")


def as_script(function: str, *arguments: Any) -> str:
    """A script of one call with plain data; ASCII, so that its encoding cannot be mistaken."""
    texts = [json.dumps(item, separators=(",", ":"), allow_nan=False) for item in arguments]
    return f"{function}({','.join(texts)});\n"


def write(run: Source, folder: Path) -> Path:
    """Write the script of one run below ``folder``."""
    path = folder / "transcripts" / f"{run.key}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_script("ESR.store.add", run.key, run_data(run)), encoding="ascii")
    return path
