"""SAE rows of the latents in play, on the model's device."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping

import torch

from esr.steering.limits import KEEP
from esr.steering.rows import SaeRows
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
