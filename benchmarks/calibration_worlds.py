"""What calibrations are compared on: simulated latents, and recorded ones of the organism.

Simulated latents have logistic curves, thresholds by the prior of 70B (above 0), scores two-valued
or graded (a Beta law whose variance is a fifth); scales of the curves independent of thresholds, or
proportional to them. Recorded latents: curves of the organism (``organism-curves.json``, by
``python -m benchmarks.organism_curves``), replayed by drawing from the recorded scores at the two
boosts around; their truth is what was recorded, made to fall.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.organism_curves import FILE
from esr import models
from esr.models import Calibration
from esr.pipeline.constants import TARGET_SCORE
from esr.pipeline.curves import Array
from esr.runs.seeds import generator

CONCENTRATION = 4.0
"""Of the Beta law of graded scores: its variance is 1 / (1 + this) of a two-valued one's."""
SCALE, SPREAD = 1.4, 0.4
"""Median of the scales in boost units, and the spread of their logarithm."""
RELATIVE_SCALE = 0.2
"""Median of scales in parts of the threshold."""


class World(Protocol):
    """Latents whose curves are known."""

    @property
    def n(self) -> int:
        """How many."""
        ...

    @property
    def prior(self) -> Calibration:
        """Over their thresholds."""
        ...

    @property
    def thresholds(self) -> Array:
        """Boosts at which the true mean score is 30: [n]."""
        ...

    def mean(self, boosts: Array) -> Array:
        """True mean score of each latent at its boost: [n], 0 to 1."""
        ...

    def draw(self, boosts: Array, rng: np.random.Generator) -> Array:
        """One score of each latent at its boost: [n], 0 to 1."""
        ...


@dataclass(frozen=True)
class Simulated:
    """Logistic curves.

    Attributes:
        thresholds: [n] boost at which the mean score is 30.
        scales: [n] boost over which the odds of the score fall by e.
        graded: whether scores are graded.
    """

    thresholds: Array
    scales: Array
    graded: bool
    prior: Calibration

    @classmethod
    def of(cls, n: int, *, graded: bool, relative: bool, seed: int) -> Simulated:
        """``n`` latents by the prior of 70B."""
        prior = models.get("70b").calibration
        rng = generator(seed, "calibration benchmark, latents")
        drawn = rng.normal(prior.prior_mean, prior.prior_sd, 4 * n + 50)
        thresholds = drawn[(drawn > 0) & (drawn < prior.high)][:n]
        spread = np.exp(rng.normal(0, SPREAD, n))
        scales = RELATIVE_SCALE * thresholds * spread if relative else SCALE * spread
        return cls(thresholds, scales, graded, prior)

    @property
    def n(self) -> int:
        """How many latents."""
        return self.thresholds.size

    def mean(self, boosts: Array) -> Array:
        """See :class:`World`."""
        logit = math.log(TARGET_SCORE / (100 - TARGET_SCORE))
        z = np.clip(logit - (boosts - self.thresholds) / self.scales, -40, 40)
        return np.asarray(1 / (1 + np.exp(-z)))

    def draw(self, boosts: Array, rng: np.random.Generator) -> Array:
        """See :class:`World`."""
        p = self.mean(boosts)
        if not self.graded:
            return np.asarray(rng.random(p.size) < p, dtype=float)
        p = np.clip(p, 1e-4, 1 - 1e-4)
        return np.asarray(rng.beta(CONCENTRATION * p, CONCENTRATION * (1 - p)))


@dataclass(frozen=True)
class Recorded:
    """The organism's curves; latents whose recorded curve passes the target.

    Attributes:
        boosts: [n_boosts] of the record, without boost 0.
        scores: by latent and boost, first-attempt scores, 0 to 1.
        means: [n, n_boosts] made to fall (isotonic regression).
    """

    boosts: Array
    scores: Sequence[Sequence[Array]]
    means: Array
    thresholds: Array
    prior: Calibration

    @classmethod
    def of(cls, file: Path) -> Recorded:
        """From the file of ``python -m benchmarks.organism_curves``."""
        from sklearn.isotonic import IsotonicRegression

        data = json.loads(file.read_text(encoding="utf-8"))
        boosts = np.array(sorted({float(b) for c in data["curves"].values() for b in c}))
        scores, means, thresholds = [], [], []
        for curve in data["curves"].values():
            listed = [np.array(curve[str(boost)]) / 100 for boost in boosts]
            if not all(part.size for part in listed):
                continue
            weights = [part.size for part in listed]
            falling = IsotonicRegression(increasing=False).fit_transform(
                boosts, [part.mean() for part in listed], sample_weight=weights
            )
            target = TARGET_SCORE / 100
            if not falling[0] > target > falling[-1]:
                continue
            scores.append(listed)
            means.append(falling)
            thresholds.append(float(np.interp(target, falling[::-1], boosts[::-1])))
        prior = models.get(str(data["model"])).calibration
        return cls(boosts, scores, np.array(means), np.array(thresholds), prior)

    @property
    def n(self) -> int:
        """How many latents."""
        return len(self.scores)

    def mean(self, boosts: Array) -> Array:
        """See :class:`World`."""
        pairs = zip(boosts, self.means, strict=True)
        return np.array([np.interp(boost, self.boosts, curve) for boost, curve in pairs])

    def draw(self, boosts: Array, rng: np.random.Generator) -> Array:
        """See :class:`World`."""
        drawn = []
        for boost, listed in zip(boosts, self.scores, strict=True):
            above = int(np.clip(np.searchsorted(self.boosts, boost), 1, self.boosts.size - 1))
            left, right = self.boosts[above - 1], self.boosts[above]
            upper = rng.random() < (boost - left) / (right - left)
            drawn.append(float(rng.choice(listed[above if upper else above - 1])))
        return np.array(drawn)


def worlds(latents: int, seed: int) -> dict[str, World]:
    """What calibrations are compared on, by name."""
    made: dict[str, World] = {}
    for relative, scales in ((False, "independent"), (True, "proportional")):
        for graded, law in ((False, "two-valued"), (True, "graded")):
            world = Simulated.of(latents, graded=graded, relative=relative, seed=seed)
            made[f"{law}, {scales}"] = world
    if FILE.is_file():
        made["organism, recorded"] = Recorded.of(FILE)
    return made
