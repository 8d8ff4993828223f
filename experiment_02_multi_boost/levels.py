"""The boosts of the sweep, from the thresholds of many latents (paper section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esr.errors import UserError
from esr.pipeline.schema import Threshold


@dataclass(frozen=True)
class Level:
    """One boost.

    Attributes:
        arm: name of the arm, unique in a sweep.
        boost: in the model's units, 4 decimals.
        sd: standard deviations from the mean threshold, after clipping.
    """

    arm: str
    boost: float
    sd: float


@dataclass(frozen=True)
class Sweep:
    """Where the boosts come from.

    Attributes:
        mean: of the thresholds.
        std: of the thresholds, dividing by their number.
        thresholds: how many there are.
        levels: from the lowest boost to the highest.
    """

    mean: float
    std: float
    thresholds: int
    levels: tuple[Level, ...]

    def stats(self) -> dict[str, Any]:
        """``threshold_cache_stats``; None for mean and std before all latents are calibrated."""
        return {
            "mean": self.mean if self.thresholds else None,
            "std": self.std if self.thresholds else None,
            "n": self.thresholds,
        }

    @classmethod
    def over(cls, thresholds: Mapping[int, Threshold], n_boosts: int, span: float) -> Sweep:
        """Evenly spaced boosts over ``span`` standard deviations to either side of the mean.

        Negative boosts are clipped to 0. Boosts that coincide then are one level: under the same
        seed they give the same response, and counting it twice would narrow every interval.

        Raises:
            UserError: fewer than two different thresholds.
        """
        values = [t.value for t in thresholds.values() if t.value is not None]
        if len(set(values)) < 2:
            raise UserError(
                f"{len(set(values))} different thresholds have no standard deviation",
                "two or more calibrated latents",
                "a run with more latents, --from-results PATH",
            )
        mean, std = float(np.mean(values)), float(np.std(values))
        wanted = mean + std * np.linspace(-span, span, n_boosts)
        boosts = list(dict.fromkeys(round(max(0.0, float(b)), 4) for b in wanted))
        levels = tuple(Level(f"boost-{b}", b, (b - mean) / std) for b in boosts)
        return cls(mean, std, len(values), levels)


NO_SWEEP = Sweep(0.0, 0.0, 0, ())
"""What is known before all latents are calibrated."""

INSIDE = 1.0 + 1e-6
"""Levels within one standard deviation of the mean threshold count as near it."""


def regions(levels: Sequence[Level]) -> dict[str, list[str]]:
    """Arms below, near and above the mean threshold, fixed before anything is measured."""
    return {
        "below": [level.arm for level in levels if level.sd < -INSIDE],
        "near": [level.arm for level in levels if abs(level.sd) <= INSIDE],
        "above": [level.arm for level in levels if level.sd > INSIDE],
    }
