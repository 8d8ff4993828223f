"""A small dictionary with two directions, and a batch that is steered by it."""

from __future__ import annotations

import math

import numpy as np
import torch

from esr.steering import interventions as iv
from esr.steering.effects import Effects
from esr.steering.interventions import Row, Slot
from esr.steering.lines import Lines, Phase

D_MODEL, N = 12, 5


CPU = torch.device("cpu")


VECTOR, SECOND = Row(0, "d" * 16), Row(1, "d" * 16)


ROWS = (*map(Row, range(N)), VECTOR, SECOND)


def residual(rows: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(rows, D_MODEL, generator=torch.Generator().manual_seed(seed))


def phases_of(lines: Lines, items: tuple[iv.Intervention, ...], layer: int = 0) -> list[Phase]:
    effects = Effects.of(items, layer, 0)
    places = np.array([ROWS.index(row) for row in effects.rows[0]], np.int64)
    return lines.add(effects, layer, places)


def clip(lower: float, upper: float) -> tuple[Slot, ...]:
    """Pin the projection on the first direction into an interval: a floor and a cap."""
    return (
        Slot(VECTOR, VECTOR, target=lower, gain=-1.0, high=lower),
        Slot(VECTOR, VECTOR, target=upper, gain=-1.0, low=upper),
    )


def rotation(angle: float) -> tuple[Slot, ...]:
    """Turn the part of the stream in the plane of the two directions, lengths kept."""
    cos, sin = math.cos(angle), math.sin(angle)
    return (
        Slot(VECTOR, VECTOR, gain=cos - 1),
        Slot(SECOND, SECOND, gain=cos - 1),
        Slot(SECOND, VECTOR, gain=sin),
        Slot(VECTOR, SECOND, gain=-sin),
    )
