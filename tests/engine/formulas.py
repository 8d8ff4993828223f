"""Every operator as one function of a residual stream, written from its formula alone.

``h``: [n, d_model]; ``v`` (and ``w``, the plane's second vector): [d_model], of length 1. Nothing
here knows slots, gates or rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from esr.steering.direction import ClassStatistics, Direction, Fit, orthogonal


@dataclass(frozen=True)
class Numbers:
    """Of one direction at one layer."""

    v: Tensor
    w: Tensor
    length: float
    mean_positive: float
    sd_positive: float
    mean_negative: float
    sd_negative: float
    boundary: float
    slope: float
    second_positive: float
    second_negative: float

    def direction(self, layer: int) -> Direction:
        """The same as a direction."""

        def side(mean: float, sd: float) -> ClassStatistics:
            return ClassStatistics(50, mean, sd)

        axis = Fit(
            layer,
            norm=self.length,
            positive=side(self.mean_positive, self.sd_positive),
            negative=side(self.mean_negative, self.sd_negative),
            boundary=self.boundary,
            slope=self.slope,
        )
        second = Fit(
            layer,
            "second",
            positive=side(self.second_positive, 1.0),
            negative=side(self.second_negative, 1.0),
        )
        return Direction("test", torch.stack([self.v, self.w]), (axis, second), "logistic")


def numbers(width: int, scale: float, seed: int = 0) -> Numbers:
    """A random direction, with statistics of the size ``scale``."""
    g = torch.Generator().manual_seed(seed)
    axis, other = torch.randn(2, width, generator=g)
    return Numbers(
        v=axis / axis.norm(),
        w=orthogonal(other, axis),
        length=1.7 * scale,
        mean_positive=1.2 * scale,
        sd_positive=0.3 * scale,
        mean_negative=-0.4 * scale,
        sd_negative=0.2 * scale,
        boundary=0.1 * scale,
        slope=3.0 / scale,
        second_positive=0.5 * scale,
        second_negative=-0.3 * scale,
    )


def diffmean(h: Tensor, n: Numbers, a: float) -> Tensor:
    return h + a * n.length * n.v


def swfc(h: Tensor, n: Numbers, a: float) -> Tensor:
    return h + a * (n.mean_positive - n.mean_negative) * n.v


def sttp(h: Tensor, n: Numbers, a: float) -> Tensor:
    p = (h @ n.v)[:, None]
    return torch.where(p < n.boundary, h + (n.mean_positive + a * n.sd_positive - p) * n.v, h)


def stmp(h: Tensor, n: Numbers, a: float) -> Tensor:
    p = (h @ n.v)[:, None]
    return torch.where(p < n.boundary, h + 2 * a * (n.boundary - p) * n.v, h)


def floor(h: Tensor, n: Numbers, a: float) -> Tensor:
    p = (h @ n.v)[:, None]
    return h + (p.clamp(min=n.mean_positive + a * n.sd_positive) - p) * n.v


def cap(h: Tensor, n: Numbers, a: float) -> Tensor:
    p = (h @ n.v)[:, None]
    return h - torch.relu(p - (n.mean_negative + a * n.sd_negative)) * n.v


def pin(h: Tensor, n: Numbers, a: float) -> Tensor:
    p = (h @ n.v)[:, None]
    return h + (n.mean_positive + a * n.sd_positive - p) * n.v


def ablate(h: Tensor, n: Numbers, a: float) -> Tensor:
    return h - a * (h @ n.v)[:, None] * n.v


def rotate(h: Tensor, n: Numbers, a: float) -> Tensor:
    plane = torch.stack([n.v, n.w])  # Rows b1, b2.
    start = torch.tensor([n.mean_negative, n.second_negative])
    end = torch.tensor([n.mean_positive, n.second_positive])
    # From one class mean to the other: left where the cross product is positive.
    turn = math.copysign(math.radians(a), float(start[0] * end[1] - start[1] * end[0]))
    c, s = math.cos(turn), math.sin(turn)
    matrix = torch.tensor([[c, -s], [s, c]])
    inside = h @ plane.T
    return h - inside @ plane + inside @ matrix.T @ plane


def probe(h: Tensor, n: Numbers, a: float) -> Tensor:
    """The least step along v after which sigmoid(slope * (p - boundary)) is at least that of a."""
    p = (h @ n.v)[:, None]
    missing = a - n.slope * (p - n.boundary)
    return torch.where(missing > 0, h + missing / n.slope * n.v, h)


FORMULAS: dict[str, tuple[Callable[[Tensor, Numbers, float], Tensor], float]] = {
    "diffmean": (diffmean, 0.8),
    "random": (diffmean, -0.8),
    "swfc": (swfc, 1.5),
    "sttp": (sttp, 2.0),
    "stmp": (stmp, 1.5),
    "floor": (floor, 1.0),
    "cap": (cap, -1.0),
    "pin": (pin, -0.5),
    "ablate": (ablate, 1.0),
    "rotate": (rotate, 120.0),
    "selective": (rotate, 60.0),
    "probe": (probe, 4.6),
}
"""Operator -> its formula, and a strength to test it with."""
