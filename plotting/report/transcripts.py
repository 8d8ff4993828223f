"""Trials for the page's browser: scripts per run, loaded when they are wanted.

Scripts, not JSON to be fetched: browsers refuse to fetch from a page opened as a file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from esr.analysis.episodes import Episode, by_clarity, from_results
from esr.analysis.outcomes import outcome_of
from esr.judge.lexical import restart_spans
from esr.judge.spans import Span, spans_of
from esr.runs.results import Feature, Trial
from plotting.sources import Source, arm_of


class Block(NamedTuple):
    """A stretch of a response, or what a judge quoted.

    Attributes:
        attempt: 1, 2, ...; 0 for what lies between attempts.
        score: of the attempt.
        quoted: whether these are the judge's words, which do not stand in the response.
        parts: text, restart phrase, text, restart phrase, ...
    """

    attempt: int
    score: float | None
    quoted: bool
    parts: list[str]


def blocks(response: str, attempts: Iterable[tuple[Span | None, str, float | None]]) -> list[Block]:
    """A response in stretches; those that are not quoted make up the whole of it.

    Args:
        response: the text.
        attempts: where each stands, what the judge quoted of it, and its score.
    """
    marks = restart_spans(response)
    stretches: list[Block] = []
    cursor = 0

    def until(end: int, attempt: int = 0, score: float | None = None) -> None:
        nonlocal cursor
        if end > cursor:
            parts = list(_parts(response, cursor, end, marks))
            stretches.append(Block(attempt, score, False, parts))
            cursor = end

    for place, (span, quote, score) in enumerate(attempts, 1):
        if span is None or span[1] <= cursor:
            stretches.append(Block(place, score, True, [quote]))
        else:
            until(span[0])
            until(span[1], place, score)
    until(len(response))
    return stretches


def _parts(response: str, start: int, end: int, marks: Sequence[Span]) -> Iterator[str]:
    for low, high in marks:
        if high > start and low < end:
            yield response[start : max(low, start)]
            yield response[max(low, start) : min(high, end)]
            start = min(high, end)
    yield response[start:end]


FIELDS = (
    *("id", "arm", "latent", "label", "prompt", "boost", "seed", "status", "degraded"),
    *("blocks", "error"),
)


def scripts(source: Source) -> dict[str, str]:
    """Scripts by file name: trials and calibrations, and what the judge answered word for word.

    A trial is a list in the order of ``fields``; its index is its place among the judged trials.
    """
    trials = source.judged_trials
    features = source.results.features if source.results else []
    latents = {f.feature_index_in_sae: _calibration(f) for f in features if f.calibration}
    data = {"fields": FIELDS, "trials": [_trial(source, t) for t in trials], "latents": latents}
    answers = [(trial.score.raw_response if trial.score else None) or "" for trial in trials]
    return {
        f"{source.key}.js": as_script("ESR.add", source.key, data),
        f"{source.key}.answers.js": as_script("ESR.addAnswers", source.key, answers),
    }


def _trial(source: Source, trial: Trial) -> list[Any]:
    response, outcome = trial.response or "", outcome_of(trial)
    attempts = (
        (span, attempt.attempt_text, attempt.score)
        for span, attempt in zip(spans_of(trial), trial.attempts, strict=True)
    )
    return [
        trial.name,
        arm_of(source, trial),
        trial.latent,
        trial.feature_label or "",
        trial.prompt or "",
        trial.threshold,
        trial.seed,
        str(outcome.status),
        outcome.degraded,
        blocks(response, attempts),
        trial.error or "",
    ]


def _calibration(feature: Feature) -> dict[str, Any]:
    """How the boost of a latent came about."""
    entry = feature.calibration
    assert entry is not None
    return {
        "value": entry["value"],
        "low": entry["low"],
        "high": entry["high"],
        "rounds": entry["rounds"],
        "skipped": entry["skipped"],
        "scores": entry.get("scores") or [],
    }


def as_script(function: str, *arguments: Any) -> str:
    """A script of one call with plain data; ASCII, so that its encoding cannot be mistaken."""
    texts = [json.dumps(item, separators=(",", ":"), allow_nan=False) for item in arguments]
    return f"{function}({','.join(texts)});\n"


def clearest(sources: Iterable[Source]) -> dict[str, Any] | None:
    """The self-correction that the page opens with: the largest gain in experiment 1.

    Large models come before organisms.

    Returns:
        what the page shows of it; None where no response corrected itself.
    """
    eligible = [s for s in sources if s.experiment == 1 and s.status == "complete" and s.stands]
    for source in sorted(eligible, key=lambda source: source.organism):
        episodes = by_clarity(from_results(source.results)) if source.results else []
        if episodes:
            return _shown(source, episodes[0])
    return None


def _shown(source: Source, episode: Episode) -> dict[str, Any]:
    total = sum(o.improved for outcomes in source.arms.values() for o in outcomes)
    names = [trial.name for trial in source.judged_trials]
    attempts = zip(episode.spans, episode.attempts, episode.scores, strict=True)
    return {
        "title": source.title,
        "organism": source.organism,
        "of": f"{total:,} self-corrections" if total != 1 else "one self-correction",
        "label": episode.latent_label,
        "prompt": episode.prompt,
        "blocks": blocks(episode.response, attempts),
        "link": f"#transcripts?open={source.key}.{names.index(episode.trial_id)}",
    }
