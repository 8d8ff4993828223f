"""Reads in progress on one worker: latents of a text, taken as its positions are fed.

A text is fed in chunks, and after a preemption again from its start; every position is taken
once. A read is kept under its task's key until the client takes it, also when its request is gone.
"""

from __future__ import annotations

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
    preemption counts none twice; ``gap`` if some were never fed."""

    task: ReadTask
    bank: SaeRows | None
    pool: Pool | None
    values: list[Tensor] = field(default_factory=list)
    seen: int = 0
    gap: bool = False


class Reads:
    """All reads of one worker."""

    def __init__(self, dictionary: Dictionary, device: torch.device) -> None:
        self._dictionary = dictionary
        self._device = device
        self._key_of: dict[str, str] = {}
        self._reads: dict[str, _Read] = {}
        self._parts: list[tuple[_Read, slice]] = []

    def admit(self, request_id: str, key: str, task: ReadTask) -> None:
        """Begin a read, or go on with it after a preemption."""
        self._key_of[request_id] = key
        if key not in self._reads:
            chosen, pool = task.latents, None
            if chosen is None:
                pool = Pool(self._dictionary.d_sae, self._device)
            bank = None if chosen is None else self._dictionary.bank(chosen).to(self._device)
            self._reads[key] = _Read(task, bank, pool)

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
    def due(self) -> int:
        """Pieces of texts to be read in this step."""
        return len(self._parts)

    def touch(self, hidden: Tensor, residual: Tensor | None) -> None:
        """Read this step's rows; the stream is the sum of the two, each [n_rows, d_model]."""
        pooled: list[tuple[Pool, Tensor]] = []
        for read, part in self._parts:
            stream = hidden[part] if residual is None else hidden[part] + residual[part]
            if read.bank is not None:
                read.values.append(read.bank.encode(stream))
            elif read.pool is not None:
                pooled.append((read.pool, stream))
        if pooled:
            add_rows(self._dictionary, pooled)
        self._parts = []

    def take(self, key: str) -> dict[str, Any] | None:
        """A finished reading, once, as plain data; None for an unknown key."""
        read = self._reads.pop(key, None)
        if read is None:
            return None
        problem = "" if read.seen >= read.task.n_tokens and not read.gap else "incomplete"
        if read.pool is not None:
            pooled = read.pool.result()
            tensors = [pooled.maximum, pooled.mean, pooled.frequency]
        else:
            tensors = [torch.cat(read.values).cpu() if read.values else torch.zeros(0, 1)]
        return {"problem": problem, "tensors": [_plain(tensor) for tensor in tensors]}


def _plain(tensor: Tensor) -> dict[str, Any]:
    array = tensor.float().contiguous().numpy()
    return {"shape": list(array.shape), "data": array.tobytes()}
