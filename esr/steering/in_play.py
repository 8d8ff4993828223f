"""Rows in play: what the requests in flight read and write, as matrices on the model's device.

Rows are packed, one line of one matrix each, so that a request's rows go to the device in one copy
that the host does not wait for. They take the first free lines, so that the lines in use stay
together at the front, and a product over them wastes little.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esr.steering.interventions import Row
from esr.steering.limits import KEEP
from esr.steering.rows import SaeRows, of_vectors
from esr.steering.sae import Dictionary
from esr.steering.staging import to_device

PADDING = 4
"""Numbers behind the two vectors of a line, a multiple of 16 bytes; bias and threshold are two."""


class RowsInPlay:
    """The rows of the requests in flight. A row keeps its line while a request uses it.

    The input bias of the SAE is inside the encoder's biases, so that directions, which have none,
    lie in the same matrix.

    Args:
        dictionary: rows are read from its file when a latent is first asked for.
        device: of the model.
        capacity: most rows at once; the client lets no more be in use.
    """

    def __init__(self, dictionary: Dictionary, device: torch.device, capacity: int = KEEP) -> None:
        self._dictionary, self._device = dictionary, device
        self._width = dictionary.d_model
        self.capacity = capacity
        # All lines at once: what is allocated later would come on top of what vLLM has measured,
        # and addresses must not change.
        self.packed = torch.zeros(capacity, 2 * self._width + PADDING, device=device)
        self._no_bias = torch.zeros(self._width, device=device)
        self._fronts: dict[int, SaeRows] = {}
        self._line: dict[Row, int] = {}
        self._users: Counter[Row] = Counter()
        self._free = list(range(capacity))
        self._used = np.zeros(capacity, bool)
        self._host: OrderedDict[Row, Tensor] = OrderedDict()

    @property
    def n(self) -> int:
        """Lines up to the last one in use."""
        used = self._used.nonzero()[0]
        return int(used[-1]) + 1 if len(used) else 0

    def front(self, n: int) -> SaeRows:
        """The first ``n`` lines: views."""
        if n not in self._fronts:
            self._fronts[n] = self._split(self.packed[:n])
        return self._fronts[n]

    def chosen(self, lines: Tensor) -> SaeRows:
        """Copies of some lines: [n] int64."""
        return self._split(self.packed[lines])

    def _split(self, packed: Tensor) -> SaeRows:
        d = self._width
        return SaeRows(
            encoder=packed[:, :d],
            encoder_bias=packed[:, 2 * d],
            threshold=packed[:, 2 * d + 1],
            decoder=packed[:, d : 2 * d],
            input_bias=self._no_bias,
        )

    def acquire(self, rows: Sequence[Row]) -> NDArray[np.int64]:
        """The lines of ``rows``: [n]. What is missing is brought to the device.

        Raises:
            RuntimeError: there are not enough free lines.
        """
        missing = [row for row in rows if row not in self._line]
        if len(missing) > len(self._free):
            raise RuntimeError(
                f"all {self.capacity} rows are in use, {len(missing)} more are needed"
            )
        if missing:
            lines = [heapq.heappop(self._free) for _ in missing]
            self._line.update(zip(missing, lines, strict=True))
            self._used[lines] = True
            where = to_device(np.array(lines, np.int64), self._device)
            content = to_device(torch.stack(self._content(missing)), self._device)
            self.packed.index_copy_(0, where, content)
        self._users.update(rows)
        return np.array([self._line[row] for row in rows], np.int64)

    def release(self, rows: Iterable[Row]) -> None:
        """A request that used ``rows`` is finished; lines that nobody uses are free."""
        for row in rows:
            self._users[row] -= 1
            if not self._users[row]:
                del self._users[row]
                line = self._line.pop(row)
                self._used[line] = False
                heapq.heappush(self._free, line)

    def _content(self, rows: Sequence[Row]) -> list[Tensor]:
        """Packed lines, from the host's memory where it has them."""
        unread = [row for row in rows if row not in self._host]
        if unread:
            self._host.update(zip(unread, _packed(load(self._dictionary, unread)), strict=True))
        for row in rows:
            self._host.move_to_end(row)
        content = [self._host[row] for row in rows]
        while len(self._host) > self.capacity:
            self._host.popitem(last=False)
        return content


def _packed(rows: SaeRows) -> Tensor:
    numbers = [rows.encoder, rows.decoder, rows.encoder_bias[:, None], rows.threshold[:, None]]
    return torch.cat([*numbers, torch.zeros(rows.n_rows, PADDING - 2)], dim=1)


def load(dictionary: Dictionary, rows: Sequence[Row]) -> SaeRows:
    """Rows of latents and directions, in that order, without input bias; on the CPU.

    Raises:
        UserError: a direction that this machine does not have.
    """
    kinds = [(digest, list(same)) for digest, same in groupby(rows, key=attrgetter("digest"))]
    parts = [_of_one_kind(dictionary, digest, same) for digest, same in kinds]
    if len(parts) < 2:
        return parts[0] if parts else dictionary.bank([]).centred()
    names = ("encoder", "encoder_bias", "threshold", "decoder")
    joined = [torch.cat([getattr(part, name) for part in parts]) for name in names]
    encoder, bias, threshold, decoder = joined
    return SaeRows(encoder, bias, threshold, decoder, torch.zeros(dictionary.d_model))


def _of_one_kind(dictionary: Dictionary, digest: str, rows: Sequence[Row]) -> SaeRows:
    indices = [row.number for row in rows]
    if not digest:
        return dictionary.bank(indices).centred()
    from esr.steering import directions

    return of_vectors(directions.rows(digest, indices))
