"""What one request asks for at one layer, as arrays, from position to position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from esr.steering.interventions import Row
from esr.steering.task import Effect

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Slots:
    """Slots that act together; see :class:`esr.steering.interventions.Slot`.

    Open slots that write the same row and read it or nothing are one; rows are ascending, so
    that the order of a request's interventions does not matter.

    Attributes:
        write, read: [n] int64, positions in the :class:`esr.steering.row_cache.RowCache`; what
            reads nothing has ``gain`` 0 and an open gate.
        constant: [n] float32, boost and target.
        gain: [n] float32.
        low, high: [n] float32, of the gate.
    """

    write: Positions
    read: Positions
    constant: Floats
    gain: Floats
    low: Floats
    high: Floats

    @property
    def n(self) -> int:
        """How many slots."""
        return len(self.write)

    @cached_property
    def plain(self) -> bool:
        """Whether every slot is open and reads what it writes, or nothing."""
        open_ = np.isneginf(self.low).all() and np.isposinf(self.high).all()
        return bool(open_ and (self.read == self.write).all())

    @cached_property
    def reads(self) -> bool:
        """Whether anything must be read."""
        return bool(self.gain.any()) or not self.plain

    @classmethod
    def of(cls, effects: Iterable[Effect], places: Mapping[Row, int]) -> Slots:
        """``places``: row -> its position in the cache."""
        merged: dict[tuple[float, ...], list[float]] = {}
        for number, item in enumerate(effects):
            slot = item.slot
            write = places[slot.write]
            read = write if slot.read is None else places[slot.read]
            alone = number if slot.gated or read != write else -1
            line = merged.setdefault((write, read, slot.low, slot.high, alone), [0.0, 0.0])
            line[0] += slot.boost + slot.target
            line[1] += slot.gain
        lines = sorted((*key[:4], *value) for key, value in merged.items())
        table = np.array(lines, np.float64).reshape(-1, 6).T
        write, read = table[:2].astype(np.int64)
        low, high, constant, gain = table[2:].astype(np.float32)
        return cls(write, read, constant, gain, low, high)


@dataclass(frozen=True, eq=False)
class Phase:
    """Slots that are the same from position ``start`` to one before ``end``."""

    start: int
    end: int
    slots: Slots


def phases(effects: Sequence[Effect], places: Mapping[Row, int]) -> dict[int, list[Phase]]:
    """What a request does, layer by layer, in order of positions; without empty phases."""
    result: dict[int, list[Phase]] = {}
    for layer in sorted({item.layer for item in effects}):
        here = [item for item in effects if item.layer == layer]
        edges = sorted({item.start for item in here} | {item.end for item in here})
        for start, end in pairwise(edges):
            active = [item for item in here if item.start <= start and end <= item.end]
            if active:
                slots = Slots.of(active, places)
                result.setdefault(layer, []).append(Phase(start, end, slots))
    return result
