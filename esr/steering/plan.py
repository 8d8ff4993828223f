"""One steered layer: the plan of a step, which rows receive what, and its execution.

Requests that decode, and short pieces of texts, are one block: each row has its request's line of
the table (:mod:`esr.steering.lines`) and all read and write the rows in play at once. A long piece
of a text is a block of its own, with its own few rows in play alone, because a product with all
other requests' rows would be wasted on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from esr.steering.in_play import RowsInPlay
from esr.steering.kernel import steer
from esr.steering.limits import WORKSPACE
from esr.steering.lines import Coefficients, Lines, Phase, alone
from esr.steering.rows import SaeRows
from esr.steering.staging import to_device

WASTE = 2**13
"""Least number of coefficients that a block of its own saves: fewer cost less than the block."""


class Span(Protocol):
    """Rows of one request in one phase of its text: ``n`` from ``first`` on."""

    @property
    def phase(self) -> Phase: ...
    @property
    def first(self) -> int: ...
    @property
    def n(self) -> int: ...


COEFFICIENTS = WORKSPACE // 2
"""Most entries of a block's tables, of which five exist at once: within what a pooled read has."""


@dataclass(frozen=True)
class Block:
    """Rows that are steered together."""

    rows: slice | Tensor
    n: int
    in_play: SaeRows
    coefficients: Coefficients

    def touch(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Steer in place; the stream is the sum of the two, each [n_rows, d_model]."""
        rows = self.rows
        if residual is None:
            hidden[rows] = steer(hidden[rows], self.in_play, *self.coefficients)
            return
        stream = hidden[rows] + residual[rows]
        residual[rows] = steer(stream, self.in_play, *self.coefficients)
        hidden[rows] = 0


class Layer:
    """One steered layer.

    Args:
        number: which.
        in_play: shared by all layers.
    """

    def __init__(self, number: int, in_play: RowsInPlay) -> None:
        self.number = number
        self.spans: Sequence[Span] = ()
        self.n_rows = self.due = self.steered = 0
        self._in_play = in_play
        self._device = in_play.packed.device
        self.lines = Lines(self._device, in_play.capacity)
        self.blocks: list[Block] = []

    def plan(self, spans: Sequence[Span]) -> bool:
        """Whether the plan had to be built anew for these spans, in order of rows."""
        # A phase belongs to one request, and is another object when that comes again: spans are
        # equal where the same objects have the same rows.
        if spans == self.spans:
            self.due = self.n_rows
            return False
        self.spans = spans
        self.n_rows = self.due = sum(span.n for span in spans)
        width = self._in_play.n
        short: list[Span] = []
        long: list[Span] = []
        for span in spans:
            wasteful = span.n > 1 and span.n * (width - len(span.phase.places)) > WASTE
            (long if wasteful else short).append(span)
        self.blocks = [*self._together(short, width)]
        for span in long:
            self.blocks += self._alone(span)
        return bool(spans)

    def touch(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Do what is due; the stream is the sum of the two, each [n_rows, d_model]."""
        for block in self.blocks:
            block.touch(hidden, residual)
            self.steered += block.n
            self.due -= block.n

    def _together(self, spans: Sequence[Span], width: int) -> Iterator[Block]:
        if not spans:
            return
        counts = [span.n for span in spans]
        rows = np.array([span.first for span in spans])
        lines = np.array([span.phase.line for span in spans])
        if len(rows) < sum(counts):
            before = np.cumsum([0, *counts[:-1]])
            rows = np.arange(sum(counts)) + np.repeat(rows - before, counts)
            lines = np.repeat(lines, counts)
        # Of all requests in flight: most often those of this step.
        reads, gated = self.lines.n_reading > 0, self.lines.n_with_gates > 0
        in_play = self._in_play.front(width)
        most = max(1, COEFFICIENTS // max(1, width))
        for start in range(0, len(rows), most):
            part = rows[start : start + most]
            owner = to_device(lines[start : start + most], self._device)
            coefficients = self.lines.of_rows(owner, width, reads=reads, gated=gated)
            together = int(part[-1] - part[0]) + 1 == len(part)
            where = (
                slice(int(part[0]), int(part[-1]) + 1)
                if together
                else to_device(part, self._device)
            )
            yield Block(where, len(part), in_play, coefficients)

    def _alone(self, span: Span) -> Iterator[Block]:
        places, coefficients = alone(span.phase, self._device)
        in_play = self._in_play.chosen(places)
        most = max(1, COEFFICIENTS // max(1, len(places)))
        last = span.first + span.n
        for start in range(span.first, last, most):
            end = min(start + most, last)
            yield Block(slice(start, end), end - start, in_play, coefficients)
