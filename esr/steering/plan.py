"""The plan of a layer for one step: which rows are steered and with what. Built on the host.

With ``X`` the rows to be steered, ``E`` and ``D`` what the rows in play read and write:

    P = activations of X on E            [n_rows, n_in_play]     a product
    g = (constant + gain * p) * open     [n_rows, n_slots]       p: the columns a slot reads
    G = g added up by what is written    [n_rows, n_in_play]     a scatter
    X + G @ D                                                    a product

Where all slots are open and read what they write, which boosts, clamps and scales do, the scatter
is done on the host once per plan: ``G = constant + gain * P``. Where every request has a single
slot, each row has its own row in play, and the products are sums over that one (``OneBlock``).

Texts fed in long pieces are blocks of their own, because a product with all other requests' rows
would be wasted on them; requests that decode share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esr.steering.limits import WORKSPACE
from esr.steering.rows import SaeRows, activate
from esr.steering.slots import Slots

LONG = 32
"""Least rows of a piece of text that is a block of its own."""

Span = tuple[Slots, int, int]
"""What a request asks for, its first row and how many it has in this step."""

Rows = slice | Tensor


class Block(Protocol):
    """Rows that are steered together."""

    @property
    def rows(self) -> Rows:
        """Which rows of the step."""
        ...

    def steer(self, stream: Tensor, bank: SaeRows) -> Tensor:
        """[n_rows, d_model] of :attr:`rows`, steered; same dtype, the input is not changed."""
        ...


@dataclass(frozen=True)
class OneBlock:
    """One open slot per row, which reads what it writes or nothing.

    Attributes:
        place: [n_rows or 1] int64, position in the bank.
        constant: the same shape, float32.
        gain: the same shape; None where nothing is read.
    """

    rows: Rows
    place: Tensor
    constant: Tensor
    gain: Tensor | None

    def steer(self, stream: Tensor, bank: SaeRows) -> Tensor:
        exact = stream.float()
        coefficient = self.constant
        if self.gain is not None:
            pre = (exact * bank.encoder[self.place]).sum(-1) + bank.encoder_bias[self.place]
            active = activate(pre, bank.threshold[self.place])
            coefficient = torch.addcmul(coefficient, self.gain, active)
        change = coefficient[:, None] * bank.decoder[self.place]
        return (exact + change).to(stream.dtype)


@dataclass(frozen=True)
class PlainBlock:
    """Open slots that read what they write, or nothing.

    Attributes:
        places: [n_in_play] int64, positions in the bank.
        constant: [n_rows or 1, n_in_play] float32.
        gain: the same shape; None where nothing is read.
    """

    rows: Rows
    places: Tensor
    constant: Tensor
    gain: Tensor | None

    def steer(self, stream: Tensor, bank: SaeRows) -> Tensor:
        exact = stream.float()
        coefficient = self.constant
        if self.gain is not None:
            coefficient = torch.addcmul(coefficient, self.gain, read(exact, bank, self.places))
        decoder = bank.decoder[self.places]
        if coefficient.shape[0] == 1:
            return (exact + coefficient @ decoder).to(stream.dtype)
        return torch.addmm(exact, coefficient, decoder).to(stream.dtype)


@dataclass(frozen=True)
class GatedBlock:
    """Slots of any kind.

    Attributes:
        places: [n_in_play] int64, positions in the bank of all rows read or written.
        columns: [2, n_rows or 1, n_slots] int64, which of ``places`` a slot writes, and reads.
        numbers: [4, n_rows or 1, n_slots] float32: constant, gain, low, high. A slot that a row
            does not have has a gate that is never open.
    """

    rows: Rows
    places: Tensor
    columns: Tensor
    numbers: Tensor

    def steer(self, stream: Tensor, bank: SaeRows) -> Tensor:
        exact = stream.float()
        p = read(exact, bank, self.places)
        n_rows, (write, reads) = p.shape[0], self.columns
        constant, gain, low, high = self.numbers
        p = p.gather(1, reads.expand(n_rows, -1))
        open_ = (p >= low) & (p < high)
        amount = torch.where(open_, torch.addcmul(constant, gain, p), 0.0)
        coefficient = exact.new_zeros(n_rows, len(self.places))
        coefficient.scatter_add_(1, write.expand(n_rows, -1), amount)
        return torch.addmm(exact, coefficient, bank.decoder[self.places]).to(stream.dtype)


def read(stream: Tensor, bank: SaeRows, places: Tensor) -> Tensor:
    """What rows of the bank read: [n_rows, n_places]; ``stream``: [n_rows, d_model] float32."""
    pre = torch.addmm(bank.encoder_bias[places], stream, bank.encoder[places].T)
    return activate(pre, bank.threshold[places])


def build(spans: Sequence[Span], device: torch.device) -> list[Block]:
    """The blocks of a step."""
    one = [span for span in spans if span[0].plain and span[0].n == 1]
    many = [span for span in spans if span[0].plain and span[0].n != 1]
    gated = [span for span in spans if not span[0].plain]
    blocks: list[Block] = []
    for chosen, make in ((one, _one), (many, _plain), (gated, _gated)):
        blocks += [make(part, device) for part in _parts(chosen)]
    return blocks


def _parts(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Long pieces alone, the others together as far as their tables stay small."""
    together: list[Span] = []
    n_rows = n_slots = 0
    for span in spans:
        slots, _, n = span
        if n >= LONG:
            yield [span]
            continue
        if together and (n_rows + n) * (n_slots + slots.n) > WORKSPACE:
            yield together
            together, n_rows, n_slots = [], 0, 0
        together.append(span)
        n_rows, n_slots = n_rows + n, n_slots + slots.n
    if together:
        yield together


def _one(spans: Sequence[Span], device: torch.device) -> OneBlock:
    places = _per_row(spans, np.concatenate([slots.write for slots, _, _ in spans]))
    numbers = [
        np.concatenate([getattr(slots, name) for slots, _, _ in spans])
        for name in ("constant", "gain")
    ]
    constant, gain = _copied(np.stack([_per_row(spans, part) for part in numbers]), device)
    reads = any(slots.reads for slots, _, _ in spans)
    place = _copied(places, device)
    return OneBlock(_rows(spans, device), place, constant, gain if reads else None)


def _plain(spans: Sequence[Span], device: torch.device) -> PlainBlock:
    requests = [slots for slots, _, _ in spans]
    places, column = np.unique(
        np.concatenate([slots.write for slots in requests]), return_inverse=True
    )
    row = np.arange(len(requests)).repeat([slots.n for slots in requests])
    tables = np.zeros((2, len(requests), len(places)), dtype=np.float32)
    tables[0, row, column] = np.concatenate([slots.constant for slots in requests])
    tables[1, row, column] = np.concatenate([slots.gain for slots in requests])
    constant, gain = _copied(_per_row(spans, tables, axis=1), device)
    reads = any(slots.reads for slots in requests)
    return PlainBlock(
        _rows(spans, device), _copied(places, device), constant, gain if reads else None
    )


def _gated(spans: Sequence[Span], device: torch.device) -> GatedBlock:
    requests = [slots for slots, _, _ in spans]
    n = [slots.n for slots in requests]
    every = np.concatenate([[slots.write, slots.read] for slots in requests], axis=1)
    places, column = np.unique(every, return_inverse=True)
    row, slot = np.arange(len(requests)).repeat(n), np.concatenate([np.arange(k) for k in n])
    columns = np.zeros((2, len(requests), max(n)), np.int64)
    columns[:, row, slot] = column.reshape(every.shape)
    numbers = np.zeros((4, len(requests), max(n)), np.float32)
    numbers[2] = np.inf
    for i, name in enumerate(("constant", "gain", "low", "high")):
        numbers[i, row, slot] = np.concatenate([getattr(slots, name) for slots in requests])
    return GatedBlock(
        _rows(spans, device),
        _copied(places, device),
        _copied(_per_row(spans, columns, axis=1), device),
        _copied(_per_row(spans, numbers, axis=1), device),
    )


def _per_row(spans: Sequence[Span], table: NDArray[Any], axis: int = 0) -> NDArray[Any]:
    """A line per request as a line per row; a single request keeps its one line."""
    if len(spans) == 1:
        return table
    return table.repeat([n for _, _, n in spans], axis=axis)


def _rows(spans: Sequence[Span], device: torch.device) -> Rows:
    first, last = spans[0][1], spans[-1][1] + spans[-1][2]
    if last - first == sum(n for _, _, n in spans):
        return slice(first, last)
    runs = [np.arange(start, start + n) for _, start, n in spans]
    return _copied(np.concatenate(runs), device)


def _copied(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """On the device; the host does not wait for the copy."""
    tensor = torch.from_numpy(array)
    if device.type == "cpu":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
