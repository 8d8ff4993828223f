"""The numbers behind the figures of experiment 7: runs, groups of models, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd

from esr import judge
from esr.analysis.agreement import Agreement, agree, agree_weighted
from esr.analysis.intervals import Interval
from esr.analysis.outcomes import Outcome, outcomes_from_results, paired
from esr.analysis.stratified import Cell, Design, Estimate, Rates
from esr.errors import UserError
from esr.runs.plain import plain
from plotting import rates
from plotting.sources import Source

EXPERIMENT = "experiment_07_cross_judge"
ORIGINAL = "original"
"""Arm of the verdicts of experiment 1, in a file of experiment 7."""

RATES = {"multi": "multi-attempt rate", "esr": "ESR rate"}


@dataclass(frozen=True)
class Run:
    """One model's sample before all its judges.

    Attributes:
        source: where it comes from.
        judges: display name of each arm; the original judge first.
        outcomes: by arm.
        weights: by trial id, how many trials of experiment 1 it stands for.
    """

    source: Source
    judges: dict[str, str]
    outcomes: dict[str, list[Outcome]]
    weights: dict[str, float]

    @property
    def complete(self) -> bool:
        """Whether every graded trial of experiment 1 was drawn."""
        return set(self.weights.values()) <= {1.0}

    @cached_property
    def rates(self) -> dict[str, Rates]:
        """By arm, the rates over all trials of experiment 1, as the run computed them."""
        by_judge = self.source.data["by_judge"]
        return {arm: _rates(by_judge[arm]["all_trials"]) for arm in self.outcomes}

    @property
    def strata(self) -> dict[str, str]:
        """Stratum by trial id."""
        multi = {o.trial_id: o.multi for o in self.outcomes[ORIGINAL]}
        return {trial: "multi" if multi.get(trial) else "single" for trial in self.weights}


@dataclass(frozen=True)
class Group:
    """Models that may be looked at together: the large ones, or the organisms."""

    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        """The models."""
        return ", ".join(run.source.title for run in self.runs)

    @property
    def organism(self) -> bool:
        """Whether these are trained demonstration organisms."""
        return self.runs[0].source.organism

    @property
    def seed(self) -> int:
        """For bootstraps."""
        return self.runs[0].source.seed

    @property
    def judges(self) -> dict[str, str]:
        """Arms of any run and their names."""
        names: dict[str, str] = {}
        for run in self.runs:
            for arm, name in run.judges.items():
                same = names.get(arm, name) == name
                names[arm] = name if same else "judge of experiment 1"
        return names

    @cached_property
    def agreements(self) -> dict[tuple[str, str], Agreement]:
        """Of every ordered pair of judges that have trials in common."""
        pooled = {arm: self.pooled(arm) for arm in self.judges}
        return {
            (a, b): agreement
            for a, b in permutations(pooled, 2)
            if (agreement := agree(pooled[a], pooled[b], self.seed)).pairs
        }

    @cached_property
    def weighted(self) -> dict[tuple[str, str], Agreement]:
        """Agreements over all trials the samples stand for, where they hold every stratum.

        None at all where every trial was drawn: :attr:`agreements` says the same.
        """
        if all(run.complete for run in self.runs):
            return {}
        found = {
            (a, b): agree_weighted(self.pooled(a), self.pooled(b), self._design(a, b), self.seed)
            for a, b in self.agreements
        }
        return {pair: agreement for pair, agreement in found.items() if agreement}

    def _design(self, *arms: str) -> Design:
        """How the trials of the runs with these arms were drawn."""
        strata: dict[str, str] = {}
        cells: dict[str, dict[Cell, int]] = {}
        for run in self.runs:
            if not all(arm in run.outcomes for arm in arms):
                continue
            model = run.source.model
            strata |= {f"{model}/{t}": f"{model}/{name}" for t, name in run.strata.items()}
            for name, size in run.source.data["sample"]["population"].items():
                cells[f"{model}/{name}"] = {(0, ""): size}
        return Design(strata, cells)

    def pooled(self, arm: str) -> list[Outcome]:
        """Outcomes of one judge over all models; latents and trials of two models differ."""
        return [
            replace(o, latent=o.latent + (k << 32), trial_id=f"{run.source.model}/{o.trial_id}")
            for k, run in enumerate(self.runs)
            for o in run.outcomes.get(arm, [])
        ]


def groups(sources: Sequence[Source]) -> list[Group]:
    """Runs by kind of model, large models first.

    Raises:
        UserError: a source that is no run of experiment 7.
    """
    runs = []
    for source in sources:
        if "sample" not in source.data or "judges" not in source.settings:
            raise UserError(
                f"{source.path} is no run of {EXPERIMENT}", "", f"python -m {EXPERIMENT}"
            )
        arms = [ORIGINAL, *source.settings["judges"]]
        names = {arm: arm.partition("@")[0] for arm in arms}
        names[ORIGINAL] = f"{_short_name(str(source.settings['judge_id']))} (experiment 1)"
        outcomes = {arm: outcomes_from_results(source.data, arm) for arm in arms}
        runs.append(Run(source, names, outcomes, source.data["sample"]["weights"]))
    kinds = [[run for run in runs if run.source.organism is kind] for kind in (False, True)]
    return [Group(tuple(kind)) for kind in kinds if kind]


def _rates(data: Mapping[str, Any]) -> Rates:
    return Rates(data["graded"], _estimate(data["multi"]), _estimate(data["esr"]))


def _estimate(data: Mapping[str, Any]) -> Estimate:
    by_latent, two_way = data["interval"], data.get("two_way")
    value = float("nan") if data["value"] is None else data["value"]
    return Estimate(value, data["n"], _interval(by_latent), _interval(two_way))


def _interval(ends: Sequence[float] | None) -> Interval | None:
    return Interval(*ends) if ends else None


def _short_name(judge_id: str) -> str:
    """The name of a judge on the command line; its id where it has none."""
    return next((name for name in judge.names() if judge.resolve(name) == judge_id), judge_id)


def estimate_row(estimate: Estimate) -> dict[str, Any]:
    """Value, n and interval as columns of a CSV; shares are 0 to 1."""
    data = plain(estimate)
    ends = rates.ends_row(data["two_way"], data["interval"])
    return {"value": data["value"], "n": data["n"], **ends}


_ESTIMATE = ("value", "n", *rates.ENDS)


def rates_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Rates by model and judge."""
    rows = [
        {
            "model": run.source.model,
            "judge": run.judges[arm],
            "quantity": label,
            **estimate_row(getattr(rates, key)),
        }
        for group in groups
        for run in group.runs
        for arm, rates in run.rates.items()
        for key, label in RATES.items()
    ]
    return pd.DataFrame(rows, columns=["model", "judge", "quantity", *_ESTIMATE])


MOST = 4
"""Numbers of attempts from here on share a cell."""


def count_matrix(group: Group, arm: str) -> np.ndarray:
    """Trials by number of attempts, [original, other], both 1 to ``MOST``."""
    matrix = np.zeros((MOST, MOST), dtype=int)
    for x, y in paired(group.pooled(ORIGINAL), group.pooled(arm)):
        matrix[min(len(x.scores or ()), MOST) - 1, min(len(y.scores or ()), MOST) - 1] += 1
    return matrix


def scores_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Trials that the original and another judge graded."""
    rows = [
        {
            "model": run.source.model,
            "judge": run.judges[arm],
            "trial": x.trial_id,
            "original_first_score": x.first,
            "first_score": y.first,
            "original_attempts": len(x.scores or ()),
            "attempts": len(y.scores or ()),
        }
        for group in groups
        for run in group.runs
        for arm in run.outcomes
        if arm != ORIGINAL
        for x, y in paired(run.outcomes[ORIGINAL], run.outcomes[arm])
    ]
    columns = ["model", "judge", "trial", "original_first_score", "first_score"]
    return pd.DataFrame(rows, columns=[*columns, "original_attempts", "attempts"])


def agreement_table(groups: Sequence[Group]) -> pd.DataFrame:
    """Agreement of every pair of judges."""
    rows = [
        {
            "models": group.title,
            "first": group.judges[a],
            "second": group.judges[b],
            "pairs": agreement.pairs,
            "unpaired": agreement.unpaired,
            "quantity": name,
            **estimate_row(estimate),
            "weighted": weighted,
        }
        for group in groups
        for weighted, agreements in ((False, group.agreements), (True, group.weighted))
        for (a, b), agreement in agreements.items()
        for name, estimate in vars(agreement).items()
        if isinstance(estimate, Estimate)
    ]
    columns = ["models", "first", "second", "pairs", "unpaired", "quantity", *_ESTIMATE, "weighted"]
    return pd.DataFrame(rows, columns=columns)
