"""SAE rows of the latents in play, and the one pure function that steers with them.

A residual row receives what its :class:`RowPlan` row says, latent by latent; the formulas of the
interventions are in :mod:`esr.steering.interventions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esr.steering.interventions import Boost, Clamp, Intervention


@dataclass(frozen=True)
class SaeRows:
    """The SAE rows of a few latents; never the whole dictionary.

    Attributes:
        encoder: [n_latents, d_model] float32, one encoder row per latent.
        encoder_bias: [n_latents] float32.
        threshold: [n_latents] float32, JumpReLU threshold; 0 for a ReLU SAE.
        decoder: [n_latents, d_model] float32, one decoder row per latent.
        input_bias: [d_model] float32, subtracted before encoding; 0 where the SAE has none.
    """

    encoder: Tensor
    encoder_bias: Tensor
    threshold: Tensor
    decoder: Tensor
    input_bias: Tensor

    @property
    def n_latents(self) -> int:
        return int(self.encoder.shape[0])

    def to(self, device: torch.device | str) -> SaeRows:
        """The same rows on ``device``."""
        return SaeRows(
            self.encoder.to(device),
            self.encoder_bias.to(device),
            self.threshold.to(device),
            self.decoder.to(device),
            self.input_bias.to(device),
        )

    def encode(self, residual: Tensor) -> Tensor:
        """Activations of every latent of the bank.

        Args:
            residual: [n_tokens, d_model].

        Returns:
            [n_tokens, n_latents] float32.
        """
        centred = residual.float() - self.input_bias
        return activate(centred @ self.encoder.T + self.encoder_bias, self.threshold)


def activate(pre: Tensor, threshold: Tensor) -> Tensor:
    """JumpReLU, and ReLU where the threshold is 0. ``pre`` and the result: [..., n_latents]."""
    return torch.relu(pre) * (pre > threshold)


@dataclass(frozen=True)
class RowPlan:
    """What each residual row receives, latent by latent, in ascending order of latent id.

    A slot adds ``boost + target + gain * f`` times the decoder row, ``f`` being the unsteered
    activation: a clamp has its target and gain -1, a scale gain ``c - 1``. Rows with fewer than
    ``n_slots`` latents are padded with zeros.

    Attributes:
        index: [n_rows, n_slots] int64, position of the latent in the :class:`SaeRows`.
        boost: [n_rows, n_slots] float32.
        target: [n_rows, n_slots] float32, clamp target.
        gain: [n_rows, n_slots] float32, 0 where the activation is not asked for.
        any_clamp: whether any ``gain`` is not 0; kept on the host, so that asking costs no
            device synchronisation.
    """

    index: Tensor
    boost: Tensor
    target: Tensor
    gain: Tensor
    any_clamp: bool

    @property
    def n_slots(self) -> int:
        return int(self.index.shape[1])

    def to(self, device: torch.device | str) -> RowPlan:
        """The same plan on ``device``."""
        return RowPlan(
            self.index.to(device),
            self.boost.to(device),
            self.target.to(device),
            self.gain.to(device),
            self.any_clamp,
        )

    def repeat_rows(self, counts: Tensor) -> RowPlan:
        """Row ``i`` repeated ``counts[i]`` times; ``counts``: [n_rows] int64."""
        return RowPlan(
            self.index.repeat_interleave(counts, 0),
            self.boost.repeat_interleave(counts, 0),
            self.target.repeat_interleave(counts, 0),
            self.gain.repeat_interleave(counts, 0),
            self.any_clamp,
        )


def plan_rows(per_row: Sequence[Sequence[Intervention]], positions: Mapping[int, int]) -> RowPlan:
    """Tensors for one row per entry of ``per_row``.

    Args:
        per_row: the interventions of each row.
        positions: latent id -> its position in the bank.
    """
    merged = [_merge(interventions) for interventions in per_row]
    slots = max([1, *(len(row) for row in merged)])
    empty = (0, 0.0, 0.0, 0.0)
    padded = [
        [(positions[latent], *terms) for latent, *terms in row] + [empty] * (slots - len(row))
        for row in merged
    ]

    # Whole columns at once: numbers written into a tensor one by one take microseconds each.
    def column(i: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor([[slot[i] for slot in row] for row in padded], dtype=dtype)

    gain = column(3)
    return RowPlan(column(0, torch.int64), column(1), column(2), gain, bool(gain.any()))


def _merge(interventions: Iterable[Intervention]) -> list[tuple[int, float, float, float]]:
    """One entry per latent, ascending: (latent, sum of boosts, clamp target, gain)."""
    merged: dict[int, tuple[float, float, float]] = {}
    for item in interventions:
        boost, target, gain = merged.get(item.latent, (0.0, 0.0, 0.0))
        if isinstance(item, Boost):
            boost += item.value
        elif isinstance(item, Clamp):
            target, gain = item.value, -1.0
        else:
            target, gain = 0.0, item.value - 1.0
        merged[item.latent] = boost, target, gain
    return [(latent, *merged[latent]) for latent in sorted(merged)]


def apply(residual: Tensor, plan: RowPlan, bank: SaeRows) -> Tensor:
    """Steer a residual stream, row by row.

    The delta is summed slot by slot in float32, so that a row's result does not depend on
    which other rows share the batch. Cost O(n_rows * n_slots * d_model).

    Args:
        residual: [n_rows, d_model], unsteered; not modified.
        plan: one entry per row.
        bank: the rows ``plan.index`` points into, on the device of ``residual``.

    Returns:
        [n_rows, d_model], same dtype as ``residual``.
    """
    stream = residual.float()
    delta = torch.zeros_like(stream)
    centred = stream - bank.input_bias if plan.any_clamp else stream
    for slot in range(plan.n_slots):
        index = plan.index[:, slot]
        coefficient = plan.boost[:, slot]
        if plan.any_clamp:
            pre = (centred * bank.encoder[index]).sum(-1) + bank.encoder_bias[index]
            moved = plan.gain[:, slot] * activate(pre, bank.threshold[index])
            coefficient = coefficient + (plan.target[:, slot] + moved)
        delta = delta + coefficient[:, None] * bank.decoder[index]
    return (stream + delta).to(residual.dtype)
