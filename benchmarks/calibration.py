"""Calibration: error of the true mean score at the threshold against responses spent.

On simulated and recorded latents (``calibration_worlds.py``).

    python -m benchmarks.calibration                 # the tables
    python -m benchmarks.calibration --write         # and into docs/statistics.md
    python -m benchmarks.calibration --latents 100
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.calibration_worlds import CONCENTRATION, Recorded, World, worlds
from esr.pipeline.bisection import Posterior
from esr.pipeline.constants import TARGET_SCORE
from esr.pipeline.curves import Array, Curves
from esr.runs.seeds import generator

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
MARKS = "<!-- calibration -->", "<!-- end of calibration -->"

SPENT = (10, 15, 20, 25, 50)
"""Responses per latent at which our methods are read."""
REPLAYS = 10
"""Calibrations of the recorded latents, each with other draws from their scores."""


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
    def over(cls, replays: Sequence[Errors]) -> Errors:
        """Of several calibrations of the same latents."""
        squares = [replay.rmse**2 for replay in replays]
        held = [replay.coverage for replay in replays if replay.coverage is not None]
        return cls(
            float(np.sqrt(np.mean(squares))),
            float(np.mean([replay.bias for replay in replays])),
            float(np.mean(held)) if held else None,
        )

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


def rows(latents: int, seed: int) -> Iterator[tuple[str, str, int, Errors]]:
    """World, method, responses per latent, and what it came to."""
    for name, world in worlds(latents, seed).items():
        # Few latents are on record: each is calibrated several times, with scores drawn anew.
        seeds = range(seed, seed + (REPLAYS if isinstance(world, Recorded) else 1))
        for per_round in (5, 1):
            errors = Errors.over([paper(world, per_round, each) for each in seeds])
            yield name, f"paper 10 x {per_round}", 10 * per_round, errors
        for method, pooled in (("each latent for itself", False), ("**adaptive**", True)):
            replays = [curves(world, pooled=pooled, seed=each) for each in seeds]
            for spent in SPENT:
                yield name, method, spent, Errors.over([replay[spent] for replay in replays])


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
        f"{datetime.now(UTC):%Y-%m-%d}; {latents} simulated latents per row; those recorded "
        f"are calibrated {REPLAYS} times."
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
