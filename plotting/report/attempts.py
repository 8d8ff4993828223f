"""Where the attempts a judge quoted stand in a response.

Positions are counted in UTF-16 units, as JavaScript counts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_OPENING_WORDS = 6

Span = tuple[int, int]


def attempt_spans(response: str, quotes: Sequence[str]) -> list[Span | None]:
    """Where each quoted attempt stands, in order; None for a quotation that does not.

    A judge may change white space, and may shorten a long attempt: where only its opening words
    are found, the attempt reaches to the next one found, or to the end.
    """
    found: list[Span | None] = []
    shortened: list[int] = []
    cursor = 0
    for index, quote in enumerate(quotes):
        span = _exact(response, quote, cursor)
        if span is None:
            span = _opening(response, quote, cursor)
            if span is not None:
                shortened.append(index)
        found.append(span)
        cursor = span[1] if span else cursor
    for index in shortened:
        later = [span[0] for span in found[index + 1 :] if span is not None]
        span = found[index]
        if span is not None:
            found[index] = (span[0], min(later, default=len(response)))
    return found


def _exact(response: str, quote: str, start: int) -> Span | None:
    """The whole quotation, white space aside."""
    words = quote.split()
    if not words:
        return None
    at = response.find(quote.strip(), start)
    if at >= 0:
        return at, at + len(quote.strip())
    return _search(r"\s+".join(map(re.escape, words)), response, start)


def _opening(response: str, quote: str, start: int) -> Span | None:
    """Its first words, where the rest differs."""
    words = quote.split()
    if len(words) <= _OPENING_WORDS:
        return None
    return _search(r"\s+".join(map(re.escape, words[:_OPENING_WORDS])), response, start)


def _search(pattern: str, response: str, start: int) -> Span | None:
    match = re.compile(pattern).search(response, start)
    return match.span() if match else None


def utf16(response: str, spans: Sequence[Span | None]) -> Iterator[Span | None]:
    """Spans in characters as spans in UTF-16 units."""
    if response.isascii() or not any(ord(c) > 0xFFFF for c in response):
        yield from spans
        return
    units = [0]
    for character in response:
        units.append(units[-1] + (2 if ord(character) > 0xFFFF else 1))
    for span in spans:
        yield None if span is None else (units[span[0]], units[span[1]])
