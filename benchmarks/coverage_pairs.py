"""How often intervals of the difference of two paired arms hold the truth.

Both arms replay the same trials. Log odds are a common level, plus effects of latent and prompt
that the arms share, plus half of an effect of latent and of prompt that adds in one arm and takes
away in the other, plus a shift of the second arm. All are normal and drawn anew in each simulation;
the true difference is that of the mean rates over latents and prompts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from esr.analysis.contrasts import Contrast
from esr.analysis.crossed import Codes
from esr.analysis.intervals import Array, sign_flip
from esr.analysis.outcomes import Outcome
from esr.analysis.quantities import MULTI_ATTEMPT, Table
from esr.judge.base import Status
from esr.runs.seeds import generator

PROMPTS = 38
SHARED = 0.8, 0.6
"""Standard deviations of the shared effects of latents and prompts, in log odds."""

DRAWS = 400_000
"""Of effects, over which the true difference is computed."""

METHODS = {
    "independent": "trials independent",
    "by latent": "by latent",
    "two-way": "**two-way**",
    "flip latent": "flip by latent",
    "flip": "**larger of both flips**",
}


@dataclass(frozen=True)
class Pair:
    """A row: log odds of either arm and what latents and prompts do to their difference."""

    latents: int
    trials: int
    first: float
    second: float
    by_latent: float
    by_prompt: float

    def truth(self) -> tuple[float, float]:
        """Mean rates of both arms."""
        rng = np.random.default_rng(0)
        latent, prompt, apart, between = (
            size * rng.standard_normal(DRAWS) for size in (*SHARED, self.by_latent, self.by_prompt)
        )
        shift = (apart + between) / 2
        first, second = self.first + latent + prompt + shift, self.second + latent + prompt - shift
        return tuple(float((1 / (1 + np.exp(-odds))).mean()) for odds in (first, second))  # type: ignore[return-value]

    def draw(self, rng: np.random.Generator) -> tuple[Array, Array, Codes, Codes]:
        """Events of both arms, latents and prompts: [n_latents * n_trials] each."""
        latents = np.repeat(np.arange(self.latents), self.trials)
        order = np.argpartition(rng.random((self.latents, PROMPTS)), self.trials - 1, axis=1)
        prompts = order[:, : self.trials].ravel()
        level = SHARED[0] * rng.standard_normal(self.latents)[latents]
        level += SHARED[1] * rng.standard_normal(PROMPTS)[prompts]
        shift = self.by_latent * rng.standard_normal(self.latents)[latents]
        shift += self.by_prompt * rng.standard_normal(PROMPTS)[prompts]
        events = (
            rng.random(latents.size) < 1 / (1 + np.exp(-(base + level + sign * shift / 2)))
            for base, sign in ((self.first, 1), (self.second, -1))
        )
        a, b = (e.astype(float) for e in events)
        return a, b, latents, prompts


def pairs() -> Iterator[Pair]:
    """All rows."""
    for size in ((1000, 5), (40, 15)):
        for level, second in ((-4.0, -4.0), (-4.0, -4.4), (0.0, 0.0), (0.0, -0.4)):
            for by_latent, by_prompt in ((0.0, 0.0), (0.8, 0.0), (0.8, 0.6)):
                yield Pair(*size, level, second, by_latent, by_prompt)


def measure(pair: Pair, simulations: int, seed: int) -> dict[str, float]:
    """Coverage of each interval; for the flips how often p is 0.05 or less."""
    rng = generator(seed, "coverage of pairs", *map(str, vars(pair).values()))
    rates = pair.truth()
    truth, held = rates[0] - rates[1], Counter[str]()
    for _ in range(simulations):
        a, b, latents, prompts = pair.draw(rng)
        difference, n = a - b, a.size
        half = 1.96 * difference.std(ddof=1) / math.sqrt(n)
        held["independent"] += abs(difference.mean() - truth) <= half
        means = difference.reshape(pair.latents, pair.trials).mean(axis=1)
        half = 1.96 * means.std(ddof=1) / math.sqrt(pair.latents)
        held["by latent"] += abs(difference.mean() - truth) <= half
        ends = _contrast(a, b, latents, prompts).difference(MULTI_ATTEMPT)
        held["two-way"] += ends is not None and ends.low <= truth <= ends.high
        sums = (np.bincount(codes, difference).astype(int).tolist() for codes in (latents, prompts))
        p_latent, p_prompt = (sign_flip(listed).p_value for listed in sums)
        held["flip latent"] += p_latent <= 0.05
        held["flip"] += max(p_latent, p_prompt) <= 0.05
    return {name: held[name] / simulations for name in METHODS}


def _contrast(a: Array, b: Array, latents: Codes, prompts: Codes) -> Contrast:
    first, second = (
        Table.of(
            [
                Outcome(int(k), "", (0.0, 0.0) if e else (0.0,), Status.GRADED, prompt=f"p{p}")
                for e, k, p in zip(events, latents, prompts, strict=True)
            ]
        )
        for events in (a, b)
    )
    return Contrast.of(first, second)


def table(simulations: int, seed: int) -> str:
    """All rows as Markdown, printed while they are computed."""
    head = ("design", "rates", "arm by latent", "arm by prompt", *METHODS.values())
    lines = [_row(head), "|---|---|" + "---:|" * (len(head) - 2)]
    print("\n".join(lines), flush=True)
    for pair in pairs():
        shares = measure(pair, simulations, seed)
        a, b = (f"{100 * rate:.1f}" for rate in pair.truth())
        numbers = [f"{shares[name]:.3f}".removeprefix("0") for name in METHODS]
        design = f"{pair.latents:,} x {pair.trials}"
        effects = (f"{pair.by_latent:g}", f"{pair.by_prompt:g}")
        lines.append(_row((design, f"{a}, {b} %", *effects, *numbers)))
        print(lines[-1], flush=True)
    lines += [
        "",
        f"Measured {datetime.now(UTC):%d %B %Y} by `python -m benchmarks.coverage --pairs --write`"
        f": {simulations} simulations per row, seed {seed}; the standard error of a true .950 is "
        f"{math.sqrt(0.95 * 0.05 / simulations):.3f}. The flips' columns are how often p is 0.05 "
        "or less: .050 is wanted where the rates are equal, much where they differ.",
    ]
    print("\n".join(lines[-2:]))
    return "\n".join(lines)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
