"""Pooled reads: maximum, mean and frequency of every latent, without the token-by-latent table.

Encoder rows are streamed in blocks; of each block only three numbers per latent are kept. Blocks
are bounded twice, by the activations they make and by their own size: a short text would else
have the whole encoder, 2 GiB for the 70B's dictionary, on the device at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esr.steering.limits import ENCODER_BLOCK, WORKSPACE
from esr.steering.sae import Dictionary


@dataclass(frozen=True)
class PooledReading:
    """Statistics over the n read positions, per latent of the dictionary; all [d_sae] float32.

    ``maximum`` and ``mean`` of the activation, ``frequency``: share of positions at which it
    is above 0. The mean where active is ``mean / frequency``.
    """

    maximum: Tensor
    mean: Tensor
    frequency: Tensor
    n_tokens: int


class Pool:
    """Running statistics of one read, each [d_sae] float32."""

    def __init__(self, d_sae: int, device: torch.device | str = "cpu") -> None:
        self.maximum = torch.zeros(d_sae, device=device)
        self.total = torch.zeros(d_sae, device=device)
        self.active = torch.zeros(d_sae, device=device)
        self.n_tokens = 0

    def add(self, first: int, activations: Tensor) -> None:
        """Take a block of latents into account.

        Args:
            first: first latent of the block.
            activations: [n_tokens, n_latents_of_block], never negative.
        """
        part = slice(first, first + activations.shape[1])
        self.maximum[part] = torch.maximum(self.maximum[part], activations.amax(0))
        self.total[part] += activations.sum(0)
        self.active[part] += (activations > 0).sum(0)

    def result(self) -> PooledReading:
        """The statistics over all positions added; on the CPU."""
        n = max(self.n_tokens, 1)
        return PooledReading(
            self.maximum.cpu(), (self.total / n).cpu(), (self.active / n).cpu(), self.n_tokens
        )


def add_rows(
    dictionary: Dictionary, parts: Sequence[tuple[Pool, Tensor]], latents_per_block: int = 0
) -> None:
    """Encode residual rows with the whole dictionary, block by block, into their pools.

    One pass over the dictionary serves all parts, because streaming it is the cost.

    Args:
        dictionary: streamed from its memory-mapped file.
        parts: (pool, residual [n_tokens, d_model]) of each read.
        latents_per_block: 0 chooses it by :data:`WORKSPACE` and :data:`ENCODER_BLOCK`.
    """
    counts = [rows.shape[0] for _, rows in parts]
    residual = torch.cat([rows for _, rows in parts])
    most = min(WORKSPACE // max(residual.shape[0], 1), ENCODER_BLOCK // (4 * dictionary.d_model))
    size = latents_per_block or max(256, most)
    for first, bank in dictionary.blocks(min(size, dictionary.d_sae), decoder_rows=False):
        blocks = bank.to(residual.device).encode(residual).split(counts)
        for (pool, _), activations in zip(parts, blocks, strict=True):
            pool.add(first, activations)
    for (pool, _), count in zip(parts, counts, strict=True):
        pool.n_tokens += count
