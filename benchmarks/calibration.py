"""Calibration: error of the true mean score at the threshold against responses spent.

Simulated latents with logistic curves, thresholds by the prior of 70B (above 0), scores two-valued
or graded (a Beta law whose variance is a fifth); scales of the curves independent of thresholds, or
proportional to them. Recorded latents: curves of the organism (``organism-curves.json``, by
``python -m benchmarks.organism_curves``), replayed by drawing from the recorded scores at the two
boosts around; its truth is what was recorded, made to fall.

    python -m benchmarks.calibration                 # the tables
    python -m benchmarks.calibration --write         # and into docs/statistics.md
    python -m benchmarks.calibration --latents 100
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.organism_curves import FILE
from esr import models
from esr.models import Calibration
from esr.pipeline.bisection import Posterior
from esr.pipeline.constants import TARGET_SCORE
from esr.pipeline.curves import Array, Curves
from esr.runs.seeds import generator

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
MARKS = "<!-- calibration -->", "<!-- end of calibration -->"

SPENT = (10, 15, 20, 25, 50)
"""Responses per latent at which our methods are read."""
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


@dataclass(frozen=True)
class Errors:
    """What a calibration comes to over latents, in points of the true mean score.

    Attributes:
        rmse: root mean square error.
        bias: mean error.
        coverage: share of 95 % intervals that hold the true threshold; None where there are none.
    """

    rmse: float
    bias: float
    coverage: float | None

    @classmethod
    def of(cls, world: World, values: Array, ends: Array) -> Errors:
        """Of thresholds [n] and their intervals [n, 2]."""
        error = 100 * world.mean(values) - TARGET_SCORE
        inside = (ends[:, 0] <= world.thresholds) & (world.thresholds <= ends[:, 1])
        return cls(float(np.sqrt((error**2).mean())), float(error.mean()), float(inside.mean()))


def paper(world: World, per_round: int, seed: int) -> Errors:
    """The paper's bisection, ten rounds."""
    rng = generator(seed, "calibration benchmark, paper", per_round)
    prior = world.prior
    posteriors = [
        Posterior.prior(prior.prior_mean, prior.prior_sd, prior.low, prior.high)
        for _ in range(world.n)
    ]
    for _ in range(10):
        boosts = np.array([posterior.median() for posterior in posteriors])
        means = np.mean([world.draw(boosts, rng) for _ in range(per_round)], axis=0)
        posteriors = [
            posterior.update(boost, 100 * float(mean), TARGET_SCORE)
            for posterior, boost, mean in zip(posteriors, boosts, means, strict=True)
        ]
    values = np.array([round(posterior.median(), 2) for posterior in posteriors])
    return Errors.of(world, values, np.array([posterior.interval() for posterior in posteriors]))


def curves(world: World, *, pooled: bool, seed: int) -> dict[int, Errors]:
    """By responses spent: ours, or every latent for itself at its posterior median."""
    rng = generator(seed, "calibration benchmark, curves", pooled)
    prior = world.prior
    fitted = Curves(
        world.n,
        mean=prior.prior_mean,
        sd=prior.prior_sd,
        low=prior.low,
        high=prior.high,
        target=TARGET_SCORE,
        pooled=pooled,
    )
    rows, errors = list(range(world.n)), {}
    for spent in range(1, max(SPENT) + 1):
        boosts = np.array(fitted.next_boosts(rows) if pooled else _medians(fitted))
        fitted.observe(rows, boosts.tolist(), (100 * world.draw(boosts, rng)).tolist())
        if spent in SPENT:
            found = fitted.thresholds()
            values = np.array([f.value for f in found]) if pooled else np.array(_medians(fitted))
            ends = np.array([(f.low, f.high) for f in found])
            errors[spent] = Errors.of(world, values, ends)
    return errors


def _medians(fitted: Curves) -> list[float]:
    levels = np.cumsum(fitted.posterior().sum(axis=2), axis=1)
    return [float(np.interp(0.5, level, fitted.grid)) for level in levels]


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


def rows(latents: int, seed: int) -> Iterator[tuple[str, str, int, Errors]]:
    """World, method, responses per latent, and what it came to."""
    for name, world in worlds(latents, seed).items():
        for per_round in (5, 1):
            yield name, f"paper 10 x {per_round}", 10 * per_round, paper(world, per_round, seed)
        for method, pooled in (("each latent for itself", False), ("**adaptive**", True)):
            for spent, errors in curves(world, pooled=pooled, seed=seed).items():
                yield name, method, spent, errors


def limit(name: str, spent: int) -> float:
    """Error in points of the mean of so many scores at the threshold itself."""
    dispersion = 1 / (1 + CONCENTRATION) if name.startswith("graded") else 1.0
    return 100 * math.sqrt(0.21 * dispersion / spent)


def table(latents: int, seed: int) -> str:
    """The table, printed as it comes."""
    lines = [
        "| curves | method | responses | error | bias | interval holds | limit |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines))
    for name, method, spent, errors in rows(latents, seed):
        bound = f"{limit(name, spent):.1f}" if "recorded" not in name else "-"
        line = (
            f"| {name} | {method} | {spent} | {errors.rmse:.1f} | {errors.bias:+.1f} "
            f"| {errors.coverage:.2f} | {bound} |"
        )
        print(line, flush=True)
        lines.append(line)
    lines.append(
        f"\n`python -m benchmarks.calibration --latents {latents} --seed {seed}`, "
        f"{datetime.now(UTC):%Y-%m-%d}; {latents} simulated latents per row."
    )
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table between its marks in docs/statistics.md."""
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    DOCUMENT.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}", encoding="utf-8")


def main() -> None:
    """Entry of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latents", type=int, default=1000, help="simulated, per row")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="the table into docs/statistics.md")
    options = parser.parse_args()
    text = table(options.latents, options.seed)
    if options.write:
        write(text)


if __name__ == "__main__":
    main()
