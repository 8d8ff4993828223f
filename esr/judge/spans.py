"""Where what a judge quoted stands in a response: the one place that looks it up."""

from __future__ import annotations

import re
from collections.abc import Sequence

from esr.runs.results import Trial

Span = tuple[int, int]
"""Characters of a text: first, one past the last."""

_OPENING_WORDS = 6


def find(response: str, quote: str, start: int = 0, *, any_case: bool = False) -> Span | None:
    """The first place of a quotation from ``start`` on; white space may differ.

    Args:
        response: where it is looked for.
        quote: what a judge copied.
        start: position in the response.
        any_case: whether capitals may differ too, where it does not stand there as it is.
    """
    words = quote.split()
    if not words:
        return None
    at = response.find(quote.strip(), start)
    if at >= 0:
        return at, at + len(quote.strip())
    pattern = r"\s+".join(map(re.escape, words))
    for flags in (0, re.IGNORECASE) if any_case else (0,):
        if match := re.compile(pattern, flags).search(response, start):
            return match.span()
    return None


def attempt_spans(response: str, quotes: Sequence[str]) -> list[Span | None]:
    """Where each quoted attempt stands, in order; None for a quotation that does not.

    A judge may shorten a long attempt: where only its opening words are there, the attempt
    reaches to the next one, or to the end.
    """
    spans: list[Span | None] = []
    shortened: list[int] = []
    cursor = 0
    for index, quote in enumerate(quotes):
        span = find(response, quote, cursor)
        if span is None and (opening := _opening(quote)):
            span = find(response, opening, cursor)
            shortened.append(index)
        spans.append(span)
        cursor = span[1] if span else cursor
    for index in shortened:
        later = [span[0] for span in spans[index + 1 :] if span is not None]
        if (span := spans[index]) is not None:
            spans[index] = (span[0], min(later, default=len(response)))
    return spans


def _opening(quote: str) -> str:
    """First words of a quotation that leaves something out; empty where it is too short."""
    words = quote.split(" ... ")[0].split()
    abridged = " ... " in quote or len(words) > _OPENING_WORDS
    return " ".join(words[:_OPENING_WORDS]) if abridged else ""


def spans_of(trial: Trial) -> list[Span | None]:
    """Where the attempts of a recorded trial stand: as recorded, else looked up."""
    if any(attempt.span for attempt in trial.attempts):
        return [attempt.span for attempt in trial.attempts]
    return attempt_spans(trial.response or "", [a.attempt_text for a in trial.attempts])
