"""The plan of a step: which rows are steered and with what, built on the host, copied at once.

Two ways to compute the same thing, chosen by how many latents a request has in play:

    gather   at most :data:`FEW` slots: row by row, each with the SAE rows of its own slots
             (:func:`esr.steering.rows.apply`), whose kernels grow with the slots
    dense    more: the latents of the requests of a block form one matrix, and two products and a
             sum steer all its rows, a row's coefficient being 0 for a latent that is not its own

Texts fed in long pieces are dense blocks of their own, because a product with all other requests'
latents would be wasted on them; requests that decode share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esr.steering.limits import WORKSPACE
from esr.steering.rows import RowPlan, SaeRows, Slots, apply, table

FEW = 1
"""Most slots of the first way. On a CPU it is as fast as the second for a boost and a fifth faster
for a clamp; from two slots on the second wins, with 27 by a factor of 9, with 200 of 16 to 34."""

LONG = 32
"""Least rows of a piece of text that is a dense block of its own."""

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
class GatherBlock:
    """See the module."""

    rows: Rows
    plan: RowPlan

    def steer(self, stream: Tensor, bank: SaeRows) -> Tensor:
        return apply(stream, self.plan, bank)


@dataclass(frozen=True)
class DenseBlock:
    """See the module.

    Attributes:
        latents: [n_latents] int64, positions in the bank.
        offset: [n_rows or 1, n_latents] float32, boost and clamp target.
        gain: the same shape, factor of the activation; None where no activation is asked for.
    """

    rows: Rows
    latents: Tensor
    offset: Tensor
    gain: Tensor | None

    def steer(self, stream: Tensor, bank: SaeRows) -> Tensor:
        exact = stream.float()
        coefficient = self.offset
        if self.gain is not None:
            active = bank.choose(self.latents).encode(exact)
            coefficient = torch.addcmul(self.offset, self.gain, active)
        decoder = bank.decoder[self.latents]
        if coefficient.shape[0] == 1:
            return (exact + coefficient @ decoder).to(stream.dtype)
        return torch.addmm(exact, coefficient, decoder).to(stream.dtype)


def build(spans: Sequence[Span], device: torch.device) -> list[Block]:
    """The blocks of a step."""
    few = [span for span in spans if span[0].n <= FEW]
    many = [span for span in spans if span[0].n > FEW]
    blocks: list[Block] = []
    if few:
        counts = np.array([n for _, _, n in few])
        requests = table([slots for slots, _, _ in few])
        owners = np.arange(len(few)).repeat(counts)
        plan = requests.to(device).select(_copied(owners, device))
        blocks.append(GatherBlock(_rows(few, device), plan))
    return blocks + [_dense(part, device) for part in _parts(many)]


def _parts(spans: Sequence[Span]) -> Iterator[list[Span]]:
    """Long pieces alone, the others together as far as their tables stay small."""
    together: list[Span] = []
    n_rows = n_latents = 0
    for span in spans:
        slots, _, n = span
        if n >= LONG:
            yield [span]
            continue
        if together and (n_rows + n) * (n_latents + slots.n) > WORKSPACE:
            yield together
            together, n_rows, n_latents = [], 0, 0
        together.append(span)
        n_rows, n_latents = n_rows + n, n_latents + slots.n
    if together:
        yield together


def _dense(spans: Sequence[Span], device: torch.device) -> DenseBlock:
    requests = [slots for slots, _, _ in spans]
    latents, column = np.unique(
        np.concatenate([slots.position for slots in requests]), return_inverse=True
    )
    row = np.arange(len(requests)).repeat([slots.n for slots in requests])
    tables = np.zeros((2, len(requests), len(latents)), dtype=np.float32)
    tables[0, row, column] = np.concatenate([slots.boost + slots.target for slots in requests])
    tables[1, row, column] = np.concatenate([slots.gain for slots in requests])
    if len(requests) > 1:
        tables = tables.repeat([n for _, _, n in spans], axis=1)
    offset, gain = _copied(tables, device)
    any_gain = any(slots.any_gain for slots in requests)
    return DenseBlock(
        _rows(spans, device), _copied(latents, device), offset, gain if any_gain else None
    )


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
