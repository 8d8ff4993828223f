"""Rows in play, on the model's device: of SAE latents and of fitted directions alike."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import torch

from esr.steering.interventions import Row
from esr.steering.limits import KEEP
from esr.steering.rows import SaeRows, of_vectors
from esr.steering.sae import Dictionary


class RowCache:
    """Rows on the model's device. A row keeps its position while a request uses it.

    The input bias of the SAE is inside the encoder's biases, so that directions, which have none,
    lie in the same matrices.

    Args:
        dictionary: rows are read from its file when a latent is first asked for.
        device: of the model.
        keep: rows that are kept, see :data:`KEEP`; the client lets no more be in use at once.
    """

    def __init__(self, dictionary: Dictionary, device: torch.device, keep: int = KEEP) -> None:
        self._dictionary = dictionary
        self._positions: OrderedDict[Row, int] = OrderedDict()
        self._users: Counter[Row] = Counter()
        self._free = list(range(keep))
        # All rows at once: what is allocated later would come on top of what vLLM has measured.
        width = dictionary.d_model
        self.bank = SaeRows(
            torch.zeros(keep, width, device=device),
            torch.zeros(keep, device=device),
            torch.zeros(keep, device=device),
            torch.zeros(keep, width, device=device),
            torch.zeros(width, device=device),
        )

    def acquire(self, rows: Iterable[Row]) -> Mapping[Row, int]:
        """Positions of ``rows`` in :attr:`bank`, loading what is missing."""
        wanted = list(rows)
        self._users.update(wanted)
        missing = [row for row in wanted if row not in self._positions]
        if missing:
            self._load(missing)
        for row in wanted:
            self._positions.move_to_end(row)
        return {row: self._positions[row] for row in wanted}

    def release(self, rows: Iterable[Row]) -> None:
        """A request that used ``rows`` is finished; they stay until room is needed."""
        self._users.subtract(rows)

    def _load(self, missing: list[Row]) -> None:
        self._make_room(len(missing))
        missing = sorted(missing, key=attrgetter("digest"))
        where = [self._free.pop() for _ in missing]
        rows = load(self._dictionary, missing).to(self.bank.encoder.device)
        index = torch.tensor(where, device=self.bank.encoder.device)
        for name in ("encoder", "encoder_bias", "threshold", "decoder"):
            getattr(self.bank, name).index_copy_(0, index, getattr(rows, name))
        self._positions.update(zip(missing, where, strict=True))

    def _make_room(self, n: int) -> None:
        if len(self._free) >= n:
            return
        for row in [k for k in self._positions if self._users[k] <= 0]:
            self._free.append(self._positions.pop(row))
            if len(self._free) >= n:
                return
        raise RuntimeError(f"all {self.bank.n_rows} rows are in use, {n} more are needed")


def load(dictionary: Dictionary, rows: Sequence[Row]) -> SaeRows:
    """Rows of latents and directions, in that order, without input bias; on the CPU.

    Raises:
        UserError: a direction that this machine does not have.
    """
    parts = [_load_one_kind(dictionary, digest, list(same)) for digest, same in _by_digest(rows)]
    if len(parts) < 2:
        return parts[0] if parts else dictionary.bank([]).centred()
    names = ("encoder", "encoder_bias", "threshold", "decoder")
    joined = [torch.cat([getattr(part, name) for part in parts]) for name in names]
    return SaeRows(*joined, torch.zeros(dictionary.d_model))


def _by_digest(rows: Sequence[Row]) -> Iterator[tuple[str, Iterable[Row]]]:
    return groupby(rows, key=attrgetter("digest"))


def _load_one_kind(dictionary: Dictionary, digest: str, rows: list[Row]) -> SaeRows:
    positions = [row.index for row in rows]
    if not digest:
        return dictionary.bank(positions).centred()
    from esr.steering import directions

    return of_vectors(directions.rows(digest, positions))
