"""What responses with a known answer are about, window by window: recovery and drift, also silent.

A response *recovers* if a steered window comes before its last telling one and that one is
correct; it *drifts* if a correct one comes before and the last is steered. Windows that are
neither tell nothing. The change is announced where the response has several attempts, which the
keyed judge counts by the restart gate, and silent where it has one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypedDict, get_args

from esr.analysis.outcomes import Outcome
from esr.runs.summary import KeyedEntry, WindowState

STATES: tuple[WindowState, ...] = get_args(WindowState)


class KeyedPart(TypedDict, total=False):
    """The part of a summary that only trials of a keyed judge have."""

    keyed: KeyedEntry


def end(windows: Sequence[WindowState]) -> WindowState:
    """State of the last window that is not "other"; "other" where there is none."""
    return next((state for state in reversed(windows) if state != "other"), "other")


def recovers(windows: Sequence[WindowState]) -> bool:
    """Whether windows end correct after a steered one."""
    return end(windows) == "correct" and "steered" in windows


def drifts(windows: Sequence[WindowState]) -> bool:
    """Whether windows end steered after a correct one."""
    return end(windows) == "steered" and "correct" in windows


def summary(outcomes: Iterable[Outcome]) -> KeyedPart:
    """Counts over graded trials with windows; nothing where no trial has any."""
    graded = [o for o in outcomes if o.graded and o.windows]
    if not graded:
        return {}
    windows = Counter(state for o in graded for state in o.windows)
    ends = Counter(end(o.windows) for o in graded)
    recovered = Counter(o.multi for o in graded if recovers(o.windows))
    drifted = Counter(o.multi for o in graded if drifts(o.windows))
    return {
        "keyed": {
            "n": len(graded),
            "windows": {state: windows[state] for state in STATES},
            "ends": {state: ends[state] for state in STATES},
            "silent_recovery": recovered[False],
            "announced_recovery": recovered[True],
            "silent_drift": drifted[False],
            "announced_drift": drifted[True],
        }
    }
