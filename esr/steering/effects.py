"""What the interventions of one request do in its text, as one table: quick to check in, to send
to a worker and to spread over a batch, however many latents a request steers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esr.steering.interventions import Boost, Clamp, Intervention, Row, Scale, Slot
from esr.steering.scope import Scope, positions

NOTHING = -1
"""As a row to read: the slot reads nothing. As a direction: the row is a latent."""

Numbers = NDArray[np.float64]

COLUMNS = (
    "layer",
    "start",
    "end",
    "write",
    "write_file",
    "read",
    "read_file",
    "boost",
    "target",
    "gain",
    "low",
    "high",
)
"""Of the table: where a slot acts (positions from ``start`` to one before ``end``), its rows by
index and direction, and its numbers, see :class:`esr.steering.interventions.Slot`."""


@dataclass(frozen=True, eq=False)
class Effects:
    """Slots in one text.

    Attributes:
        table: [n_slots, 12] float64, see :data:`COLUMNS`; whole numbers up to 2**31 are exact.
        digests: of the directions that the table names by number.
    """

    table: Numbers
    digests: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def column(self, name: str) -> Numbers:
        """[n_slots]."""
        column: Numbers = self.table[:, COLUMNS.index(name)]
        return column

    @cached_property
    def rows(self) -> tuple[tuple[Row, ...], NDArray[np.int64], NDArray[np.int64]]:
        """The rows in play, each once; and for every slot, which of them it writes and reads. One
        that reads nothing names what it writes."""
        write, read = self.table[:, 3], self.table[:, 5]
        nothing = read == NOTHING
        read = np.where(nothing, write, read)
        if self.digests:
            # An index and a direction as one number.
            n = len(self.digests) + 1
            write_file, read_file = self.table[:, 4], self.table[:, 6]
            read = read * n + np.where(nothing, write_file, read_file) + 1
            write = write * n + write_file + 1
        if len(self) == 1 and read[0] == write[0]:
            every, at = write, np.zeros(2, np.int64)
        else:
            every, at = np.unique(np.concatenate([write, read]), return_inverse=True)
        indices, files = np.divmod(every, len(self.digests) + 1)
        names = map(("", *self.digests).__getitem__, files.astype(int).tolist())
        pairs = zip(indices.astype(int).tolist(), names, strict=True)
        rows = tuple(map(tuple.__new__, repeat(Row), pairs))
        return rows, at[: len(self)], at[len(self) :]

    @property
    def n_phases(self) -> int:
        """Runs of positions with the same slots: the most at any layer."""
        edges = {*self.table[:, 1].tolist(), *self.table[:, 2].tolist()}
        return max(0, len(edges) - 1)

    @property
    def n_gated(self) -> int:
        """Slots that have a gate, or read something else than they write."""
        low, high = self.table[:, 10], self.table[:, 11]
        same = (self.table[:, 5:7] == self.table[:, 3:5]).all(1)
        plain = (low == -math.inf) & (high == math.inf) & ((self.table[:, 5] == NOTHING) | same)
        return int((~plain).sum())

    @property
    def content(self) -> str:
        """Hash of all that can change a stream, 32 hex digits: what requests must agree in to
        share cached tokens. Positions count where an effect begins or ends, and directions by
        their digests."""
        parts = (self.table.tobytes(), *map(str.encode, self.digests))
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]

    def to_wire(self) -> tuple[bytes, tuple[str, ...]]:
        """As plain data."""
        return self.table.tobytes(), self.digests

    @classmethod
    def from_wire(cls, table: bytes, digests: Sequence[str]) -> Effects:
        """Inverse of :meth:`to_wire`."""
        numbers = np.frombuffer(table, np.float64)
        return cls(numbers.reshape(-1, len(COLUMNS)), tuple(digests))

    @classmethod
    def of(
        cls,
        interventions: Iterable[Intervention],
        layer: int,
        n_prompt: int,
        n_prefix: int = 0,
        scope: Scope = "all",
    ) -> Effects:
        """What interventions do in one text.

        Args:
            interventions: checked ones.
            layer: of those that name none.
            n_prompt: tokens of the prompt.
            n_prefix: tokens of the given prefix.
            scope: of the request: only positions in both its scope and an intervention's are
                changed.
        """
        items = list(interventions)
        if not items:
            return NONE
        slots = [item for item in items if isinstance(item, Slot)]
        latents = [item for item in items if not isinstance(item, Slot)] if slots else items
        digests: dict[str, int] = {"": NOTHING}
        table = np.empty((len(items), len(COLUMNS)))
        # Column by column: a request may steer hundreds of latents.
        table[: len(latents), 3:] = _of_latents(latents)
        for line, slot in enumerate(slots, len(latents)):
            table[line, 3:] = _of_slot(slot, digests)
        ordered = [*latents, *slots]
        table[:, 0] = [layer if item.layer is None else item.layer for item in ordered]
        first, last = positions(scope, n_prompt, n_prefix)
        spans: dict[Scope, tuple[int, int]] = {}
        for name in {item.scope for item in items}:
            start, end = positions(name, n_prompt, n_prefix)
            spans[name] = max(start, first), min(end, last)
        table[:, 1:3] = [spans[item.scope] for item in ordered]
        return cls(table[table[:, 1] < table[:, 2]], tuple(digests)[1:])


NONE = Effects(np.zeros((0, len(COLUMNS))))

_KINDS = {Boost: 0, Clamp: 1, Scale: 2}


def _of_latents(items: Sequence[Any]) -> Numbers:
    """The last nine columns of boosts, clamps and scales."""
    columns = np.empty((len(items), 9))
    latent = [item.latent for item in items]
    value = np.array([item.value for item in items], np.float64)
    kind = np.array([_KINDS[type(item)] for item in items], np.int64)
    columns[:, 0] = latent
    columns[:, [1, 3]] = NOTHING
    columns[:, 2] = np.where(kind == 0, NOTHING, latent)
    columns[:, 4] = np.where(kind == 0, value, 0)
    columns[:, 5] = np.where(kind == 1, value, 0)
    columns[:, 6] = np.where(kind == 2, value - 1, -1.0 * (kind == 1))
    columns[:, 7], columns[:, 8] = -math.inf, math.inf
    return columns


def _of_slot(slot: Slot, digests: dict[str, int]) -> tuple[float, ...]:
    """The last nine columns of a slot; a direction that is new gets the next number."""
    rows: list[int] = []
    for row in (slot.write, slot.read):
        if row is None:
            rows += [NOTHING, NOTHING]
        else:
            rows += [row.number, digests.setdefault(row.digest, len(digests) - 1)]
    return (*rows, slot.boost, slot.target, slot.gain, slot.low, slot.high)
