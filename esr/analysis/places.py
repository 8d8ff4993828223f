"""Where a response starts over: the first restart of a trial that a judge found multi-attempt."""

from __future__ import annotations

from dataclasses import dataclass

from esr.judge import gate
from esr.judge.spans import attempt_spans
from esr.runs.results import Trial

NEAR = 40
"""Characters between an announced restart and the attempt that a judge lets begin there."""


@dataclass(frozen=True)
class Place:
    """Characters of a response: the announcement of a restart, and what follows.

    Attributes:
        start: first character of the announcement; of the second attempt where none is known.
        end: one past the announcement.
    """

    start: int
    end: int


def first_restart(trial: Trial) -> Place | None:
    """Where the second attempt begins, its announcement included; None where that is not known.

    A judge may count the announcement to the attempt before it or behind it, so the announcement
    (:mod:`esr.judge.gate`) nearest to where the second attempt begins is taken.
    """
    text, quotes = trial.response or "", [attempt.attempt_text for attempt in trial.attempts]
    span = attempt_spans(text, quotes)[1] if len(quotes) > 1 else None
    if span is None:
        return None
    begins = span[0]
    near = [
        (start, end) for start, end in gate.restarts(text) if start and _near(start, end, begins)
    ]
    start, end = min(near, key=lambda span: abs(span[0] - begins), default=(begins, begins))
    return Place(start, end) if text[:start].strip() else None


def _near(start: int, end: int, begins: int) -> bool:
    return start - NEAR <= begins <= end + NEAR
