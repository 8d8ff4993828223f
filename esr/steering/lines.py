"""What the requests in flight ask for at one layer: a line of a table each, on the device.

A request has a line for each *phase* of its text, a run of positions with the same slots. The line
is written once, when the request comes; a step only says which line each of its rows has.

    line    constant and gain of every row in play            gated slots
    ----    -------------------------------------------       -----------------------------------
    0       0 0 0 0 0 0 0 0 ...   for rows of nobody           never open
    1       2 0 0 0 0 0 0 0 ...   Boost(7, 2.0)                never open
    2       0 0 0 -1 0 0 0 0 ...  Clamp(3), Boost(9, -1.0)     never open
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esr.steering.effects import COLUMNS, NOTHING, Effects
from esr.steering.kernel import Gates
from esr.steering.staging import pinned, to_device

CONSTANT, GAIN = 0, 1
"""The two halves of a line."""

LOW = 2
"""Of the numbers of a gated slot: constant, gain, low, high."""

READ = COLUMNS.index("read")

NO_COLUMNS, NO_GATES = np.zeros((2, 0), np.int64), np.zeros((4, 0), np.float32)


@dataclass(frozen=True, eq=False)
class Phase:
    """The slots of a request at a layer, from position ``start`` to one before ``end``.

    Attributes:
        line: in the table.
        places: [n] int64, the rows in play that its slots name, each once.
        numbers: [2, n] float32, constant and gain of its open slots.
        columns: [2, n_gated] int64, entries of ``places`` that a gated slot writes, and reads.
        gates: [4, n_gated] float32: constant, gain, low, high.
        reads: whether an open slot reads.
    """

    start: int
    end: int
    line: int
    places: NDArray[np.int64]
    numbers: NDArray[np.float32]
    columns: NDArray[np.int64]
    gates: NDArray[np.float32]
    reads: bool

    @property
    def gated(self) -> bool:
        """Whether it has gated slots."""
        return bool(self.columns.shape[1])


class Lines:
    """The table of one layer.

    Args:
        device: of the model.
        width: rows in play, the most.
        lines: for a start; more are made when they are needed, unless the table is ``fixed``.
        gated: gated slots of a line, likewise.
        fixed: whether addresses and sizes must not change.
    """

    def __init__(
        self,
        device: torch.device,
        width: int,
        lines: int = 64,
        gated: int = 0,
        *,
        fixed: bool = False,
    ) -> None:
        self._device, self._fixed = device, fixed
        self.n_reading = self.n_with_gates = 0
        """Lines in use whose open slots read, and lines that have gated slots."""
        self._free: list[int] = []
        self.table = torch.zeros(0, 2, width, device=device)
        self.columns = torch.zeros(0, 2, gated, dtype=torch.int64, device=device)
        self.gates = _shut(0, gated, device)
        self._grow(lines + 1, gated)
        self._free.remove(0)

    @property
    def n_gated(self) -> int:
        """Gated slots of a line."""
        return int(self.columns.shape[2])

    def _grow(self, lines: int, gated: int) -> None:
        before, more = len(self.table), lines - len(self.table)
        slots = gated - self.n_gated
        device = self._device
        if more:
            wide = self.table.shape[2]
            self.table = torch.cat([self.table, torch.zeros(more, 2, wide, device=device)])
            self._free += range(before, lines)
        columns = torch.zeros(lines, 2, gated, dtype=torch.int64, device=device)
        gates = _shut(lines, gated, device)
        columns[:before, :, : gated - slots] = self.columns
        gates[:before, :, : gated - slots] = self.gates
        self.columns, self.gates = columns, gates

    def add(self, effects: Effects, layer: int, lines: NDArray[np.int64]) -> list[Phase]:
        """Lines for a request, in order of positions; a phase without slots has none.

        Args:
            effects: of the request, at all layers.
            layer: whose table this is.
            lines: of the rows in play, one per row of ``effects.rows``.
        """
        _, write, read = effects.rows
        table, write, read = effects.table, lines[write], lines[read]
        here = table[:, 0] == layer
        if not here.all():
            table, write, read = table[here], write[here], read[here]
        start, end = table[:, 1], table[:, 2]
        edges = sorted({*start.tolist(), *end.tolist()})
        if len(edges) == 2:
            return [self._phase(int(edges[0]), int(edges[1]), write, read, table)]
        phases = []
        for first, last in pairwise(edges):
            active = (start <= first) & (last <= end)
            if active.any():
                slots = write[active], read[active], table[active]
                phases.append(self._phase(int(first), int(last), *slots))
        return phases

    def _phase(
        self,
        start: int,
        end: int,
        write: NDArray[np.int64],
        read: NDArray[np.int64],
        table: NDArray[np.float64],
    ) -> Phase:
        reads, boost, target, gain, low, high = table[:, READ:].T[[0, 2, 3, 4, 5, 6]]
        constant = boost + target
        plain = (low == -np.inf) & (high == np.inf) & ((read == write) | (reads == NOTHING))
        if plain.all():
            places, column = write, np.zeros(1, np.int64)
            if len(write) > 1:
                places, column = np.unique(write, return_inverse=True)
            columns, gates = NO_COLUMNS, NO_GATES
        else:
            places, column = np.unique(np.concatenate([write, read]), return_inverse=True)
            columns = column.reshape(2, -1)[:, ~plain]
            gates = np.stack([constant, gain, low, high])[:, ~plain].astype(np.float32)
            column, constant, gain = column[: len(write)][plain], constant[plain], gain[plain]
        numbers = np.empty((2, len(places)), np.float32)
        numbers[CONSTANT] = np.bincount(column, constant, len(places))
        numbers[GAIN] = np.bincount(column, gain, len(places))
        line = self._written(places, numbers, columns, gates)
        phase = Phase(start, end, line, places, numbers, columns, gates, bool(numbers[GAIN].any()))
        self.n_reading += phase.reads
        self.n_with_gates += phase.gated
        return phase

    def _written(
        self,
        places: NDArray[np.int64],
        numbers: NDArray[np.float32],
        columns: NDArray[np.int64],
        gates: NDArray[np.float32],
    ) -> int:
        """A free line, now with these slots."""
        n_gated = columns.shape[1]
        if n_gated > self.n_gated or not self._free:
            if self._fixed:
                raise RuntimeError(
                    f"no room for {n_gated} gated slots of {self.n_gated}, or no free line"
                )
            lines = len(self.table) + (0 if self._free else len(self.table))
            self._grow(lines, max(self.n_gated, n_gated))
        line = heapq.heappop(self._free)
        on_host = self._device.type == "cpu"
        whole = self.table[line].numpy() if on_host else np.empty(self.table.shape[1:], np.float32)
        whole[:] = 0
        whole[:, places] = numbers
        if not on_host:
            self.table[line].copy_(pinned(whole, self._device), non_blocking=True)
        if self.n_gated:
            slots = np.zeros((2, self.n_gated), np.int64)
            slots[:, :n_gated] = places[columns]
            shut = _shut(1, self.n_gated, torch.device("cpu"))[0]
            shut[:, :n_gated] = torch.from_numpy(gates)
            self.columns[line].copy_(pinned(slots, self._device), non_blocking=True)
            self.gates[line].copy_(pinned(shut, self._device), non_blocking=True)
        return line

    def remove(self, phases: list[Phase]) -> None:
        """The lines of a request that is finished."""
        for phase in phases:
            heapq.heappush(self._free, phase.line)
            self.n_reading -= phase.reads
            self.n_with_gates -= phase.gated

    def of_rows(self, owner: Tensor, width: int, *, reads: bool, gated: bool) -> Coefficients:
        """What rows receive; ``owner``: [n_rows] int64, the line of each row; ``width``: rows in
        play."""
        # Each half by itself: a product with every other line of a matrix is twice as slow.
        constant, gain = self.table[:, :, :width].unbind(1)
        gates = Gates(self.columns[owner], self.gates[owner]) if gated else None
        chosen = gain.index_select(0, owner) if reads else None
        return constant.index_select(0, owner), chosen, gates


Coefficients = tuple[Tensor, Tensor | None, Gates | None]
"""The last three arguments of :func:`esr.steering.kernel.steer`."""


def alone(phase: Phase, device: torch.device) -> tuple[Tensor, Coefficients]:
    """The rows in play of one phase, [n] int64, and what all its rows receive."""
    constant, gain = to_device(phase.numbers[:, None], device)
    gates = None
    if phase.gated:
        columns = to_device(phase.columns[None], device)
        gates = Gates(columns, to_device(phase.gates[None], device))
    places = to_device(phase.places, device)
    return places, (constant, gain if phase.reads else None, gates)


def _shut(lines: int, gated: int, device: torch.device) -> Tensor:
    """Gates of no slot: [lines, 4, gated] float32."""
    gates = torch.zeros(lines, 4, gated, device=device)
    gates[:, LOW] = torch.inf
    return gates


def pieces(
    phases: list[Phase], row: int, count: int, position: int
) -> Iterator[tuple[Phase, int, int]]:
    """The rows of ``count`` from ``row`` on, the first at ``position``, by phase: each with its
    first row and how many."""
    for phase in phases:
        first, last = max(phase.start, position), min(phase.end, position + count)
        if first < last:
            yield phase, row + first - position, last - first
