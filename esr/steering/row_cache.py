"""Device-side stores of a worker: SAE rows of the latents in play, and one plan row per request."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from esr.steering.limits import KEEP
from esr.steering.rows import RowPlan, SaeRows
from esr.steering.sae import Dictionary


class RowCache:
    """SAE rows on the model's device. A latent keeps its position while a request uses it.

    Args:
        dictionary: rows are read from its file when a latent is first asked for.
        device: of the model.
        keep: rows that are kept, see :data:`KEEP`; the client lets no more be in use at once.
    """

    def __init__(self, dictionary: Dictionary, device: torch.device, keep: int = KEEP) -> None:
        self._dictionary = dictionary
        n = min(keep, dictionary.d_sae)
        self._positions: OrderedDict[int, int] = OrderedDict()
        self._users: Counter[int] = Counter()
        self._free = list(range(n))
        empty = dictionary.bank([]).to(device)
        # All rows at once: what is allocated later would come on top of what vLLM has measured.
        self.bank = SaeRows(
            empty.encoder.new_zeros(n, dictionary.d_model),
            empty.encoder_bias.new_zeros(n),
            empty.threshold.new_zeros(n),
            empty.decoder.new_zeros(n, dictionary.d_model),
            empty.input_bias,
        )

    def acquire(self, latents: Iterable[int]) -> Mapping[int, int]:
        """Positions of ``latents`` in :attr:`bank`, loading what is missing."""
        wanted = list(latents)
        self._users.update(wanted)
        missing = [latent for latent in wanted if latent not in self._positions]
        if missing:
            self._load(missing)
        for latent in wanted:
            self._positions.move_to_end(latent)
        return {latent: self._positions[latent] for latent in wanted}

    def release(self, latents: Iterable[int]) -> None:
        """A request that used ``latents`` is finished; their rows stay until room is needed."""
        self._users.subtract(latents)

    def _load(self, missing: list[int]) -> None:
        self._make_room(len(missing))
        rows = self._dictionary.bank(missing).to(self.bank.encoder.device)
        where = [self._free.pop() for _ in missing]
        index = torch.tensor(where, device=self.bank.encoder.device)
        for name in ("encoder", "encoder_bias", "threshold", "decoder"):
            getattr(self.bank, name).index_copy_(0, index, getattr(rows, name))
        self._positions.update(zip(missing, where, strict=True))

    def _make_room(self, n: int) -> None:
        if len(self._free) >= n:
            return
        for latent in [k for k in self._positions if self._users[k] <= 0]:
            self._free.append(self._positions.pop(latent))
            if len(self._free) >= n:
                return
        raise RuntimeError(f"all {self.bank.n_latents} SAE rows are in use, {n} more are needed")


class PlanTable:
    """One :class:`RowPlan` row per request with interventions, on the model's device."""

    def __init__(self, device: torch.device) -> None:
        self._free: list[int] = []
        self._table = RowPlan(
            torch.zeros(0, 1, dtype=torch.int64, device=device),
            torch.zeros(0, 1, device=device),
            torch.zeros(0, 1, device=device),
            torch.zeros(0, 1, device=device),
            any_clamp=False,
        )

    def put(self, row: RowPlan) -> int:
        """Store the plan of one request: [1, n_slots]. Returns its place."""
        table = self._table
        if not self._free or row.n_slots > table.n_slots:
            self._grow(0 if self._free else max(64, table.index.shape[0]), row.n_slots)
        place = self._free.pop()
        for name in ("index", "boost", "target", "gain"):
            stored = getattr(self._table, name)
            stored[place].zero_()
            stored[place, : row.n_slots] = getattr(row, name)[0].to(stored.device)
        return place

    def drop(self, place: int) -> None:
        """Forget a request's plan; its place is reused."""
        self._free.append(place)

    def rows(self, owners: Tensor, n_slots: int, any_clamp: bool) -> RowPlan:
        """A plan of one row per entry of ``owners``: [n_rows] places on the device."""
        table = self._table
        return RowPlan(
            table.index[owners, :n_slots],
            table.boost[owners, :n_slots],
            table.target[owners, :n_slots],
            table.gain[owners, :n_slots],
            any_clamp,
        )

    def _grow(self, n_places: int, n_slots: int) -> None:
        old = self._table
        size = old.index.shape[0]
        more = max(0, n_slots - old.n_slots)

        def larger(tensor: Tensor) -> Tensor:
            return torch.nn.functional.pad(tensor, (0, more, 0, n_places))

        self._table = RowPlan(
            larger(old.index),
            larger(old.boost),
            larger(old.target),
            larger(old.gain),
            any_clamp=False,
        )
        self._free.extend(range(size, size + n_places))
