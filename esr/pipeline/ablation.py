"""Arms in which a set of latents is clamped or scaled in trials that are otherwise replayed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from esr.analysis import comparison, metrics
from esr.analysis.outcomes import Outcome
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.runs.results import iter_trials
from esr.steering.interventions import Clamp, Scale


@dataclass(frozen=True)
class Arm:
    """One condition.

    Attributes:
        name: of the arm.
        latents: what is clamped.
        dose: the activation is multiplied by it; 0 is the paper's ablation, 1 changes nothing
            and shows how far a plain replay departs from the baseline.
    """

    name: str
    latents: tuple[int, ...]
    dose: float = 0.0

    def change(self, spec: TrialSpec) -> TrialSpec:
        """The same trial with the set clamped; latent, boost, prompt and seed stay."""
        added = tuple(Clamp(k) if self.dose == 0 else Scale(k, self.dose) for k in self.latents)
        return replace(spec, arm=self.name, interventions=(*spec.interventions, *added))


@dataclass(frozen=True)
class Baseline:
    """What arms are compared with.

    Attributes:
        outcomes: of the trials, the same for every arm.
        responses: trial id -> text.
    """

    outcomes: Sequence[Outcome]
    responses: Mapping[str, str]

    @classmethod
    def of_parent(cls, parent: ReplayedRun, specs: Sequence[TrialSpec]) -> Baseline:
        """The parent's own trials, those that ``specs`` replay."""
        wanted = {spec.trial_id for spec in specs}
        responses = {
            trial.name: trial.response or ""
            for trial in iter_trials(parent.results)
            if trial.name in wanted
        }
        return cls(parent.outcomes(wanted), responses)

    @classmethod
    def of_records(cls, records: Sequence[TrialRecord]) -> Baseline:
        """An arm without clamps of the same run."""
        responses = {r.spec.trial_id: r.response or "" for r in records}
        return cls([r.outcome() for r in records], responses)


def arm_results(
    arms: Sequence[Arm], records: Sequence[TrialRecord], baseline: Baseline, seed: int
) -> dict[str, Any]:
    """Summary of each arm and its comparison with the baseline, for ``results.json``.

    ``identical_responses`` counts responses that are the baseline's word for word: where clamps
    touch nothing, an arm is no evidence about them. ``boosted_latent_clamped`` counts trials
    whose boosted latent is itself in the set.
    """
    return {
        arm.name: {
            "latents": list(arm.latents),
            "dose": arm.dose,
            **_one(arm, [r for r in records if r.spec.arm == arm.name], baseline, seed),
        }
        for arm in arms
    }


def _one(arm: Arm, records: Sequence[TrialRecord], baseline: Baseline, seed: int) -> dict[str, Any]:
    outcomes = [record.outcome() for record in records]
    known = [r for r in records if r.spec.trial_id in baseline.responses]
    same = sum(r.response == baseline.responses[r.spec.trial_id] for r in known)
    return {
        "summary": metrics.summary(outcomes, seed),
        "comparison": comparison.summary(outcomes, baseline.outcomes, seed),
        "identical_responses": {"count": same, "n": len(known)},
        "boosted_latent_clamped": sum(r.spec.latent in arm.latents for r in records),
    }
