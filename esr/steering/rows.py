"""SAE rows of the latents in play, and the one pure function that steers with them.

A residual row receives what its :class:`RowPlan` row says, latent by latent; the formulas of the
interventions are in :mod:`esr.steering.interventions`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
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

    def choose(self, positions: Tensor) -> SaeRows:
        """The rows at ``positions``: [n] int64, without their decoder rows."""
        return SaeRows(
            self.encoder[positions],
            self.encoder_bias[positions],
            self.threshold[positions],
            self.decoder[:0],
            self.input_bias,
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
        any_gain: whether any ``gain`` is not 0; kept on the host, so that asking costs no
            device synchronisation.
    """

    index: Tensor
    boost: Tensor
    target: Tensor
    gain: Tensor
    any_gain: bool

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
            self.any_gain,
        )

    def select(self, rows: Tensor) -> RowPlan:
        """One row per entry of ``rows``: [n_rows] int64, rows of this plan."""
        return RowPlan(
            self.index[rows], self.boost[rows], self.target[rows], self.gain[rows], self.any_gain
        )


@dataclass(frozen=True)
class Slots:
    """What one request asks for, on the host: a slot per latent, ascending.

    Attributes:
        position: [n] int64, of the latent in the :class:`SaeRows`.
        boost, target, gain: [n] float32, see :class:`RowPlan`.
        any_gain: whether any gain is not 0.
    """

    position: NDArray[np.int64]
    boost: NDArray[np.float32]
    target: NDArray[np.float32]
    gain: NDArray[np.float32]
    any_gain: bool

    @property
    def n(self) -> int:
        """How many slots."""
        return len(self.position)

    @classmethod
    def of(cls, interventions: Iterable[Intervention], positions: Mapping[int, int]) -> Slots:
        """``positions``: latent id -> its position in the bank."""
        merged = _merge(interventions)
        boost, target, gain = np.array([terms for _, *terms in merged], np.float32).reshape(-1, 3).T
        position = np.array([positions[latent] for latent, *_ in merged], np.int64)
        return cls(position, boost, target, gain, bool(gain.any()))


def table(requests: Sequence[Slots]) -> RowPlan:
    """A plan with one row per request, on the host."""
    counts = [slots.n for slots in requests]
    shape = len(requests), max(1, *counts)
    row = np.arange(len(requests)).repeat(counts)
    column = np.concatenate([np.arange(n) for n in counts])

    def filled(name: str, dtype: type[np.generic]) -> Tensor:
        values = np.zeros(shape, dtype)
        values[row, column] = np.concatenate([getattr(slots, name) for slots in requests])
        return torch.from_numpy(values)

    boost, target, gain = (filled(name, np.float32) for name in ("boost", "target", "gain"))
    any_gain = any(slots.any_gain for slots in requests)
    return RowPlan(filled("position", np.int64), boost, target, gain, any_gain)


def plan_rows(per_row: Sequence[Sequence[Intervention]], positions: Mapping[int, int]) -> RowPlan:
    """A plan with one row per entry of ``per_row``; ``positions``: latent id -> its position."""
    return table([Slots.of(row, positions) for row in per_row])


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
    centred = stream - bank.input_bias if plan.any_gain else stream
    for slot in range(plan.n_slots):
        index = plan.index[:, slot]
        coefficient = plan.boost[:, slot]
        if plan.any_gain:
            pre = (centred * bank.encoder[index]).sum(-1) + bank.encoder_bias[index]
            moved = plan.gain[:, slot] * activate(pre, bank.threshold[index])
            coefficient = coefficient + (plan.target[:, slot] + moved)
        delta = delta + coefficient[:, None] * bank.decoder[index]
    return (stream + delta).to(residual.dtype)
