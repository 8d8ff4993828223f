"""The self-correction the page opens with: the clearest one, by a fixed rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esr.analysis.episodes import Episode, by_clarity, from_results
from esr.judge.lexical import restart_spans
from esr.judge.spans import Span
from plotting.sources import Source


def clearest(sources: Sequence[Source]) -> dict[str, Any] | None:
    """The episode with the largest gain in experiment 1; large models before organisms.

    Returns:
        what the page shows of it; None where no response corrected itself.
    """
    eligible = [s for s in sources if s.experiment == 1 and s.status == "complete" and s.stands]
    for source in sorted(eligible, key=lambda source: source.organism):
        episodes = by_clarity(from_results(source.results)) if source.results else []
        if episodes:
            total = sum(o.improved for outcomes in source.arms.values() for o in outcomes)
            return _shown(source, episodes[0], total)
    return None


def _shown(source: Source, episode: Episode, total: int) -> dict[str, Any]:
    names = [trial.name for trial in source.judged_trials]
    return {
        "title": source.title,
        "organism": source.organism,
        "of": f"{total:,} self-corrections" if total != 1 else "one self-correction",
        "label": episode.latent_label,
        "prompt": episode.prompt,
        "blocks": blocks(episode),
        "link": f"#transcripts?open={source.key}.{names.index(episode.trial_id)}",
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
