"""Which recorded trials go before the other judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from esr.analysis.outcomes import Outcome
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
    """

    trials: tuple[Recorded, ...]
    population: dict[str, int]
    drawn: dict[str, int]
    ungraded: int

    def weights(self) -> dict[str, float]:
        """By trial id: how many graded trials of the parent this one stands for."""
        share = {name: self.population[name] / max(1, n) for name, n in self.drawn.items()}
        return {
            t.spec.trial_id: share["multi" if t.outcome.multi else "single"] for t in self.trials
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data for ``results.json``."""
        return {
            "population": self.population,
            "drawn": self.drawn,
            "ungraded": self.ungraded,
            "weights": self.weights(),
        }


def recorded_trials(parent: ReplayedRun, context: RunContext) -> list[Recorded]:
    """All trials of the parent that have a response."""
    outcomes = {outcome.trial_id: outcome for outcome in parent.outcomes()}
    specs = parent.specs(context.prompts, context.sampling)
    return [
        Recorded(spec, trial.response or "", trial.score, outcomes[trial.name])
        for trial, spec in zip(parent.answered(), specs, strict=True)
    ]


def multi_attempts(outcomes: Sequence[Outcome]) -> int:
    """Trials that always belong to the sample."""
    return sum(outcome.multi for outcome in outcomes)


def draw(trials: Sequence[Recorded], n: int, seed: int) -> Sample:
    """All multi-attempt trials, filled up to ``n`` with others drawn at random.

    More than ``n`` are drawn where there are more multi-attempt trials than that.
    """
    graded = [trial for trial in trials if trial.outcome.graded]
    others = [i for i, trial in enumerate(graded) if not trial.outcome.multi]
    n_multi = len(graded) - len(others)
    wanted = min(max(0, n - n_multi), len(others))
    rng = generator(seed, "cross-judge sample")
    chosen = set(rng.choice(others, wanted, replace=False).tolist()) if wanted else set()
    drawn = [t for i, t in enumerate(graded) if t.outcome.multi or i in chosen]
    return Sample(
        trials=tuple(drawn),
        population={"multi": n_multi, "single": len(others)},
        drawn={"multi": n_multi, "single": wanted},
        ungraded=len(trials) - len(graded),
    )


def allocate(multi: dict[str, int], n: int, least: int) -> dict[str, int]:
    """Sample size of each model: its multi-attempt trials and an even share of the rest.

    Args:
        multi: multi-attempt trials by model.
        n: trials over all models.
        least: of each model.
    """
    rest = max(0, n - sum(multi.values())) // max(1, len(multi))
    return {model: max(least, count + rest) for model, count in multi.items()}
