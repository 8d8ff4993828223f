"""The rows of a step, and when the next one has the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esr.steering.lines import Phase
from esr.steering.scope import END


@dataclass(frozen=True)
class Layout:
    """The rows of one step, in the order in which the model sees them.

    Attributes:
        request_ids: owner of each run of rows.
        counts: rows of each.
        positions: text position of the first row of each.
        scheduled_ids: the same requests in scheduling order; used only to reproduce the
            faulty pairing of the authors' fork (DEVIATIONS.md).
    """

    request_ids: Sequence[str]
    counts: Sequence[int]
    positions: Sequence[int]
    scheduled_ids: Sequence[str]


class Steady:
    """A step in which every request decodes one token, with ``left`` more until a scope changes.

    The next step is the same, its positions one further, if the same requests decode again.
    """

    def __init__(self, layout: Layout, left: int) -> None:
        self._ids, self._counts, self._left = list(layout.request_ids), list(layout.counts), left

    def goes_on(self, layout: Layout) -> bool:
        """Whether the step of ``layout`` is the next of the same."""
        self._left -= 1
        same = layout.request_ids == self._ids and layout.counts == self._counts
        return self._left >= 0 and same


def until_change(phases: Sequence[Phase], position: int) -> int:
    """Steps from ``position`` on until a phase begins or ends."""
    edges = [edge for phase in phases for edge in (phase.start, phase.end)]
    return min((edge - position for edge in edges if edge >= position), default=END)
