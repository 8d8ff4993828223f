"""A judge's multi-attempts beside restarts that the text announces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from esr.analysis.outcomes import Outcome
from esr.runs.summary import RestartGateEntry


def restart_gate(outcomes: Iterable[Outcome]) -> RestartGateEntry:
    """How many graded trials both a judge and the restart gate find multi-attempt, one, or none.

    Trials that are not graded, or whose text is not known, are left out.
    """
    known = [o for o in outcomes if o.graded and o.announced is not None]
    cells = Counter((o.multi, o.announced) for o in known)
    return {
        "n": len(known),
        "both": cells[True, True],
        "judge_only": cells[True, False],
        "gate_only": cells[False, True],
        "neither": cells[False, False],
    }
