"""How often nominal 95 % intervals of a rate hold the truth, where latents and prompts cross.

Simulated designs with known truth: every trial has odds of its own, a common level times a gamma
effect of its latent times one of its prompt; each latent meets so many of 38 prompts, drawn
without replacement; latents, prompts and trials are drawn anew in every simulation. The common
level is set so that the mean over all latents and prompts is the rate. At low rates the
coefficients of variation of odds and rate are the same.

    python -m benchmarks.coverage                 # the table, ~6 minutes of one core
    python -m benchmarks.coverage --write         # and into docs/statistics.md
    python -m benchmarks.coverage --simulations 50
    python -m benchmarks.coverage --pairs --write # the second table: differences of paired arms
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks import coverage_pairs
from esr.analysis.crossed import Clusters, Estimate, rate_interval
from esr.analysis.intervals import Array, Interval, Proportion, percentile_interval
from esr.runs.seeds import generator

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "statistics.md"
MARKS = "<!-- coverage -->", "<!-- end of coverage -->"
PAIR_MARKS = "<!-- coverage of pairs -->", "<!-- end of coverage of pairs -->"

PROMPTS = 38
"""Prompts of the paper."""

GRID = 300
"""Quantiles per effect over which the mean rate is computed."""

GOAL = 0.93, 0.97

METHODS = {
    "paper": "paper's",
    "by latent": "by latent",
    "by prompt": "by prompt",
    "linear": "two-way, plain",
    "logit": "two-way, logit",
    "two-way": "**two-way**",
}


@dataclass(frozen=True)
class Design:
    """A cell of the table.

    Attributes:
        latents: how many.
        trials: per latent, each on another prompt.
        rate: the truth, 0 to 1.
        between_latents: coefficient of variation of the odds.
        between_prompts: likewise.
    """

    latents: int
    trials: int
    rate: float
    between_latents: float
    between_prompts: float

    def odds(self) -> float:
        """The common level at which the mean rate is ``rate``."""
        from scipy.optimize import brentq

        effects = np.multiply.outer(_grid(self.between_latents), _grid(self.between_prompts))

        def surplus(log_odds: float) -> float:
            odds = math.exp(log_odds) * effects
            return float((odds / (1 + odds)).mean()) - self.rate

        return math.exp(brentq(surplus, -20, 20))

    def draw(self, odds: float, rng: np.random.Generator) -> tuple[Array, Clusters]:
        """Events of one run, ordered by latent, and what they belong to."""
        latents = np.repeat(np.arange(self.latents), self.trials)
        order = np.argpartition(rng.random((self.latents, PROMPTS)), self.trials, axis=1)
        prompts = order[:, : self.trials].ravel()
        effects = _effects(rng, self.between_latents, self.latents)[latents]
        effects = odds * effects * _effects(rng, self.between_prompts, PROMPTS)[prompts]
        events = rng.random(latents.size) < effects / (1 + effects)
        clusters = Clusters((latents, prompts), latents * PROMPTS + prompts)
        return events.astype(float), clusters


def _grid(variation: float) -> Array:
    from scipy.stats import gamma

    if not variation:
        return np.ones(1)
    middles = (np.arange(GRID) + 0.5) / GRID
    return np.asarray(gamma.ppf(middles, variation**-2, scale=variation**2))


def _effects(rng: np.random.Generator, variation: float, n: int) -> Array:
    """Gamma effects of mean 1: [n]."""
    return rng.gamma(variation**-2, variation**2, n) if variation else np.ones(n)


def designs() -> Iterator[Design]:
    """All cells, in the order of the table."""
    sizes = ((1000, 5), (40, 15))
    for size, rate, latents, prompts in itertools.product(
        sizes, (0.004, 0.038, 0.5), (0.0, 1.5), (0.0, 0.5, 1.0)
    ):
        yield Design(*size, rate, latents, prompts)


def coverage(design: Design, simulations: int, seed: int, resamples: int) -> dict[str, float]:
    """Share of simulations in which each method's interval holds the rate."""
    rng = generator(seed, "coverage", *map(str, vars(design).values()))
    odds = design.odds()
    chance = np.full(design.latents, 1 / design.latents)
    weights = rng.multinomial(design.latents, chance, size=resamples) / design.latents
    held: Counter[str] = Counter()
    for _ in range(simulations):
        events, clusters = design.draw(odds, rng)
        for method, interval in _intervals(events, clusters, weights).items():
            held[method] += interval.low <= design.rate <= interval.high
    return {method: held[method] / simulations for method in METHODS}


def _intervals(events: Array, clusters: Clusters, weights: Array) -> Mapping[str, Interval]:
    """Every method's interval; Wilson's where a method has none, as everywhere in the suite.

    Args:
        events: [n_latents * n_trials], ordered by latent.
        clusters: latents and prompts.
        weights: [resamples, n_latents] of the bootstrap by latent, of mean 1 / n_latents.
    """
    plain = Proportion(int(events.sum()), events.size)
    wilson, counted = plain.wilson(), np.ones_like(events)
    prompts = clusters.codes[1]
    of_latents = events.reshape(weights.shape[1], -1).mean(axis=1)
    crossed = Estimate.of(events, counted, clusters)
    intervals = {
        "paper": plain.paper_interval(),
        "by latent": percentile_interval(weights @ of_latents),
        "by prompt": rate_interval(events, counted, Clusters((prompts,), prompts)),
        "linear": crossed.mean_interval(),
        "logit": _logit(crossed),
        "two-way": rate_interval(events, counted, clusters),
    }
    return {method: interval or wilson for method, interval in intervals.items()}


def _logit(estimate: Estimate) -> Interval | None:
    """Value ± t standard errors on the scale of log odds."""
    if not estimate.variance > 0:
        return None
    binomial = estimate.value * (1 - estimate.value)
    middle = math.log(estimate.value / (1 - estimate.value))
    half = estimate.quantile * math.sqrt(estimate.variance) / binomial
    return Interval(*(1 / (1 + math.exp(-end)) for end in (middle - half, middle + half)))


def table(simulations: int, seed: int, resamples: int) -> str:
    """All cells as Markdown, printed row by row while they are computed."""
    head = ("design", "rate", "latents' CV", "prompts' CV", *METHODS.values())
    lines = [_row(head), "|---|" + "---:|" * (len(head) - 1)]
    reached = 0
    print("\n".join(lines), flush=True)
    for design in designs():
        shares = coverage(design, simulations, seed, resamples)
        reached += GOAL[0] <= shares["two-way"] <= GOAL[1]
        numbers = [f"{shares[method]:.3f}".removeprefix("0") for method in METHODS]
        size, rate = f"{design.latents:,} x {design.trials}", f"{100 * design.rate:g} %"
        effects = (f"{design.between_latents:g}", f"{design.between_prompts:g}")
        lines.append(_row((size, rate, *effects, *numbers)))
        print(lines[-1], flush=True)
    error = math.sqrt(0.95 * 0.05 / simulations)
    lines += [
        "",
        f"Measured {datetime.now(UTC):%d %B %Y} by `python -m benchmarks.coverage --write`: "
        f"{simulations} simulations per row, {resamples:,} resamples, seed {seed}; the standard "
        f"error of a true .950 is {error:.3f}. The two-way interval covers between {GOAL[0]:g} "
        f"and {GOAL[1]:g} in {reached} of {len(list(designs()))} rows.",
    ]
    print("\n".join(lines[-2:]))
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def write(text: str, marks: tuple[str, str] = MARKS) -> None:
    """Put the table between its marks in docs/statistics.md."""
    document = DOCUMENT.read_text(encoding="utf-8")
    before, rest = document.split(marks[0])
    _, after = rest.split(marks[1])
    DOCUMENT.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}", encoding="utf-8")


def main() -> None:
    """Entry of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000, help="per row")
    parser.add_argument("--resamples", type=int, default=1000, help="of the bootstrap by latent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="the table into docs/statistics.md")
    parser.add_argument("--pairs", action="store_true", help="differences of paired arms instead")
    options = parser.parse_args()
    if options.pairs:
        text = coverage_pairs.table(options.simulations, options.seed)
    else:
        text = table(options.simulations, options.seed, options.resamples)
    if options.write:
        write(text, PAIR_MARKS if options.pairs else MARKS)


if __name__ == "__main__":
    main()
