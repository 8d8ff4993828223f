"""Which recorded trials go before the other judges."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esr.analysis.outcomes import Outcome
from esr.analysis.stratified import Cell, Design
from esr.pipeline.context import RunContext
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import TrialSpec
from esr.runs.results import ScoreEntry
from esr.runs.seeds import generator


@dataclass(frozen=True)
class Recorded:
    """A trial of experiment 1 with its response and the verdict on it.

    Attributes:
        spec: the trial.
        response: its text.
        score: of the results file: attempts, raw answer; None where there is none.
        outcome: of the original judge.
    """

    spec: TrialSpec
    response: str
    score: ScoreEntry | None
    outcome: Outcome


@dataclass(frozen=True)
class Sample:
    """A stratified sample: multi-attempt trials by the original judge, and the others.

    Attributes:
        trials: drawn, in the order of the parent's file.
        population: graded trials of each stratum in the parent.
        drawn: trials drawn from each.
        ungraded: trials of the parent that its judge did not grade; they are not drawn.
        cells: graded trials of each stratum in the parent, by latent and prompt.
    """

    trials: tuple[Recorded, ...]
    population: dict[str, int]
    drawn: dict[str, int]
    ungraded: int
    cells: dict[str, dict[Cell, int]]

    def weights(self) -> dict[str, float]:
        """By trial id: how many graded trials of the parent this one stands for."""
        share = {name: self.population[name] / max(1, n) for name, n in self.drawn.items()}
        return {name: share[stratum] for name, stratum in self.design.strata.items()}

    @property
    def design(self) -> Design:
        """For what is said of all graded trials of the parent."""
        return Design({t.spec.trial_id: stratum(t.outcome) for t in self.trials}, self.cells)

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``results.json``."""
        return {
            "population": self.population,
            "drawn": self.drawn,
            "ungraded": self.ungraded,
            "weights": self.weights(),
            "strata": dict(self.design.strata),
            "latents": {name: _by_latent(counts) for name, counts in self.cells.items()},
        }


def stratum(outcome: Outcome) -> str:
    """Which of the two strata a graded trial belongs to."""
    return "multi" if outcome.multi else "single"


def _by_latent(counts: Mapping[Cell, int]) -> dict[str, int]:
    sums: Counter[str] = Counter()
    for (latent, _), count in counts.items():
        sums[str(latent)] += count
    return dict(sums)


def recorded_trials(parent: ReplayedRun, context: RunContext) -> list[Recorded]:
    """All trials of the parent that have a response."""
    outcomes = {outcome.trial_id: outcome for outcome in parent.outcomes()}
    specs = parent.specs(context.prompts, context.sampling)
    return [
        Recorded(spec, trial.response or "", trial.score, outcomes[trial.name])
        for trial, spec in zip(parent.answered(), specs, strict=True)
    ]


ORIGINAL = "original"
"""Arm of the verdicts of experiment 1."""

LEAST_SINGLE = 50
"""Least single-attempt trials of each model, where it has so many."""
SINGLE_SHARE = 10
"""And least one in so many of its single-attempt trials: none stands for more than these."""


def strata(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """Graded trials of each stratum."""
    counts = Counter(stratum(outcome) for outcome in outcomes if outcome.graded)
    return {name: counts[name] for name in ("multi", "single")}


def least_singles(singles: int) -> int:
    """Single-attempt trials of a model that are drawn whatever else is."""
    return min(singles, max(LEAST_SINGLE, math.ceil(singles / SINGLE_SHARE)))


def draw(trials: Sequence[Recorded], n: int, seed: int) -> Sample:
    """All multi-attempt trials, filled up to ``n`` with others drawn at random.

    More than ``n`` are drawn where multi-attempt trials and :func:`least_singles` are more.
    """
    graded = [trial for trial in trials if trial.outcome.graded]
    others = [i for i, trial in enumerate(graded) if not trial.outcome.multi]
    n_multi = len(graded) - len(others)
    wanted = min(max(n - n_multi, least_singles(len(others))), len(others))
    rng = generator(seed, "cross-judge sample")
    chosen = set(rng.choice(others, wanted, replace=False).tolist()) if wanted else set()
    drawn = [t for i, t in enumerate(graded) if t.outcome.multi or i in chosen]
    return Sample(
        trials=tuple(drawn),
        population={"multi": n_multi, "single": len(others)},
        drawn={"multi": n_multi, "single": wanted},
        ungraded=len(trials) - len(graded),
        cells={
            name: dict(Counter(t.outcome.cell for t in graded if stratum(t.outcome) == name))
            for name in ("multi", "single")
        },
    )


def allocate(populations: Mapping[str, Mapping[str, int]], n: int, least: int) -> dict[str, int]:
    """Sample size of each model: its multi-attempt trials and an even share of the rest.

    Args:
        populations: graded trials of each stratum, by model.
        n: trials over all models; more where their least samples are more.
        least: of each model.
    """
    rest = max(0, n - sum(p["multi"] for p in populations.values())) // max(1, len(populations))
    return {
        model: max(least, p["multi"] + max(rest, least_singles(p["single"])))
        for model, p in populations.items()
    }
