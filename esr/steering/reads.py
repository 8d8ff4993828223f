"""Reads in progress on one worker: latents or states of a text, taken as its positions are fed.

A text is fed in chunks, and after a preemption again from its start; every position is taken
once. A read is kept under its task's key until the client takes it, also when its request is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from esr.steering.pooling import Pool, add_rows
from esr.steering.rows import SaeRows
from esr.steering.sae import Dictionary
from esr.steering.task import ReadTask


@dataclass
class _Read:
    """A read in progress. ``seen``: positions before it were fed, so a recomputation after
    preemption counts none twice; ``gap`` if some were never fed. ``values``: what was read of
    each piece: latents, states, or one row for the piece."""

    task: ReadTask
    layer: int
    bank: SaeRows | None
    pool: Pool | None
    values: list[Tensor] = field(default_factory=list)
    seen: int = 0
    gap: bool = False


class Reads:
    """All reads of one worker."""

    def __init__(
        self, dictionary: Dictionary, device: torch.device, feature_layer: int = 0
    ) -> None:
        self._dictionary = dictionary
        self._device = device
        self._feature_layer = feature_layer
        self._key_of: dict[str, str] = {}
        self._reads: dict[str, _Read] = {}
        self._parts: list[tuple[_Read, slice]] = []

    def admit(self, request_id: str, key: str, task: ReadTask) -> None:
        """Begin a read, or go on with it after a preemption."""
        self._key_of[request_id] = key
        if key not in self._reads:
            chosen, pool = task.latents, None
            if chosen is None and not task.states:
                pool = Pool(self._dictionary.d_sae, self._device)
            bank = None if chosen is None else self._dictionary.bank(chosen).to(self._device)
            layer = self._feature_layer if task.layer is None else task.layer
            self._reads[key] = _Read(task, layer, bank, pool)

    def forget(self, request_id: str) -> None:
        """The request is finished; its reading stays until it is taken."""
        self._key_of.pop(request_id, None)

    def begin_step(self) -> None:
        """No rows yet."""
        self._parts = []

    def lay_out(self, request_id: str, row: int, count: int, position: int) -> None:
        """A request's rows of this step: ``count`` from ``row`` on, the text from ``position``."""
        key = self._key_of.get(request_id)
        if key is None:
            return
        read = self._reads[key]
        read.gap = read.gap or position > read.seen
        start = max(read.seen, read.task.first)
        end = min(position + count, read.task.n_tokens)
        if start < end:
            self._parts.append((read, slice(row + start - position, row + end - position)))
        read.seen = max(read.seen, end)

    @property
    def in_progress(self) -> bool:
        """Whether any request reads."""
        return bool(self._key_of)

    @property
    def due(self) -> int:
        """Pieces of texts to be read in this step."""
        return len(self._parts)

    def touch(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Read this step's rows; the stream is the sum of the two, each [n_rows, d_model]."""
        pooled: list[tuple[Pool, Tensor]] = []
        here = [(read, part) for read, part in self._parts if read.layer == layer]
        if not here:
            return
        for read, part in here:
            stream = hidden[part] if residual is None else hidden[part] + residual[part]
            if read.bank is not None:
                read.values.append(read.bank.encode(stream))
            elif read.pool is not None:
                pooled.append((read.pool, stream))
            else:
                read.values.append(_piece(read.task.states, stream.float()))
        if pooled:
            add_rows(self._dictionary, pooled)
        self._parts = [(read, part) for read, part in self._parts if read.layer != layer]

    def take(self, key: str) -> dict[str, Any] | None:
        """A finished reading, once, as plain data; None for an unknown key."""
        read = self._reads.pop(key, None)
        if read is None:
            return None
        problem = "" if read.seen >= read.task.n_tokens and not read.gap else "incomplete"
        if read.pool is not None:
            pooled = read.pool.result()
            tensors = [pooled.maximum, pooled.mean, pooled.frequency]
        elif read.task.states and read.values:
            tensors = [summed(read.task, read.values).cpu()]
        else:
            tensors = [torch.cat(read.values).cpu() if read.values else torch.zeros(0, 1)]
        return {"problem": problem, "tensors": [_plain(tensor) for tensor in tensors]}


def _piece(states: str, stream: Tensor) -> Tensor:
    """What is kept of the rows of one piece of a text: [n, d_model], or one row."""
    if states == "mean":
        return stream.sum(0, keepdim=True)
    return stream[-1:].clone() if states == "last" else stream.clone()


def summed(task: ReadTask, pieces: Sequence[Tensor]) -> Tensor:
    """The states of a text from those of its pieces: [n_tokens - first, d_model], or one row."""
    rows = torch.cat(list(pieces))
    if task.states == "mean":
        return rows.sum(0, keepdim=True) / (task.n_tokens - task.first)
    return rows[-1:] if task.states == "last" else rows


def states_of(task: ReadTask, stream: Tensor) -> Tensor:
    """The states of a text whose positions from ``first`` on are ``stream``: [n, d_model]."""
    return summed(task, [_piece(task.states, stream.float())])


def _plain(tensor: Tensor) -> dict[str, Any]:
    array = tensor.float().contiguous().numpy()
    return {"shape": list(array.shape), "data": array.tobytes()}
