"""The self-correction the page opens with: the clearest one, by a fixed rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esr.analysis.episodes import Episode, by_clarity, from_results
from esr.judge.lexical import restart_spans
from esr.judge.spans import Span
from plotting.report.transcripts import judged_trials
from plotting.runfiles import RunFile


def clearest(runs: Sequence[RunFile]) -> dict[str, Any] | None:
    """The episode with the largest gain in experiment 1; large models before organisms.

    Returns:
        what the page shows of it; None where no response corrected itself.
    """
    eligible = [run for run in runs if run.experiment == 1 and run.status == "complete"]
    for run in sorted(eligible, key=lambda run: run.organism):
        found = by_clarity(from_results(run.data))
        if found:
            return _shown(run, found[0], sum(o.improved for a in run.arms.values() for o in a))
    return None


def _shown(run: RunFile, episode: Episode, total: int) -> dict[str, Any]:
    names = [trial.name for trial in judged_trials(run.data)]
    index = names.index(episode.trial_id)
    return {
        "title": run.title,
        "organism": run.organism,
        "of": f"{total:,} self-corrections" if total != 1 else "one self-correction",
        "label": episode.latent_label,
        "prompt": episode.prompt,
        "blocks": blocks(episode),
        "link": f"#transcripts?open={run.key}.{index}",
    }


def blocks(episode: Episode) -> list[dict[str, Any]]:
    """A response in stretches: attempts with their scores, and what lies between them."""
    response = episode.response
    marks = restart_spans(response)
    made: list[dict[str, Any]] = []
    cursor = 0

    def between(start: int, end: int) -> None:
        if response[start:end].strip():
            made.append(
                {"name": "between", "title": "", "parts": _parts(response, start, end, marks)}
            )

    attempts = zip(episode.spans, episode.attempts, episode.scores, strict=True)
    for place, (span, quote, score) in enumerate(attempts, 1):
        parts: list[tuple[str, bool]] = [(quote, False)]
        if span is not None:
            between(cursor, span[0])
            parts, cursor = _parts(response, *span, marks), span[1]
        title = f"Attempt {place}, score {score:g}"
        made.append({"name": f"a{min(4, place)}", "title": title, "parts": parts})
    between(cursor, len(response))
    return made


def _parts(response: str, start: int, end: int, marks: Sequence[Span]) -> list[tuple[str, bool]]:
    """(text, whether it is a restart phrase)."""
    parts = []
    cursor = start
    for low, high in marks:
        if high > cursor and low < end:
            low, high = max(low, cursor), min(high, end)
            parts += [(response[cursor:low], False), (response[low:high], True)]
            cursor = high
    return [(text, marked) for text, marked in [*parts, (response[cursor:end], False)] if text]
