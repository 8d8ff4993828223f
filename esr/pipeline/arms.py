"""Arms: trials of a parent run once more, with something changed, beside what they replay.

The change is any function of a trial; :class:`Arm` is the one that clamps or scales latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from esr.analysis import comparison, metrics, tables
from esr.analysis.outcomes import Outcome
from esr.pipeline.cli import ReplayConfig
from esr.pipeline.context import RunContext
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.trials import by_feature as results_by_feature
from esr.runs.results import iter_trials
from esr.runs.summary import ArmEntry
from esr.runs.trial_data import FeatureData
from esr.steering.interventions import Clamp, Scale


def replayed_trials(
    config: ReplayConfig,
    context: RunContext,
    arm: str,
    change: Callable[[TrialSpec], TrialSpec] = lambda spec: spec,
) -> list[TrialSpec]:
    """The parent's trials once more, as many as the options ask for.

    Args:
        config: with the limits ``n_latents`` and ``n_trials``.
        context: of a run that replays its parent.
        arm: name of the new arm.
        change: what the arm does differently.
    """
    return context.replayed.replay(
        context.prompts, context.sampling, arm, change, config.n_latents, config.n_trials
    )


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
) -> dict[str, ArmEntry]:
    """Summary of each arm and its comparison with the baseline, for ``results.json``.

    ``identical_responses`` counts responses that are the baseline's word for word: where clamps
    touch nothing, an arm is no evidence about them. ``boosted_latent_clamped`` counts trials
    whose boosted latent is itself in the set.
    """
    return {
        arm.name: _arm(arm, [r for r in records if r.spec.arm == arm.name], baseline, seed)
        for arm in arms
    }


def _arm(arm: Arm, records: Sequence[TrialRecord], baseline: Baseline, seed: int) -> ArmEntry:
    outcomes = [record.outcome() for record in records]
    paired = [r for r in records if r.spec.trial_id in baseline.responses]
    same = sum(r.response == baseline.responses[r.spec.trial_id] for r in paired)
    return {
        "latents": list(arm.latents),
        "dose": arm.dose,
        "summary": metrics.summary(outcomes, seed),
        "comparison": comparison.summary(outcomes, baseline.outcomes, seed),
        "identical_responses": {"count": same, "n": len(paired)},
        "boosted_latent_clamped": sum(r.spec.latent in arm.latents for r in records),
    }


def arm_tables(data: Mapping[str, Any]) -> list[str]:
    """Each arm of ``results.json`` beside the baseline, for the terminal."""
    lines = []
    for name, arm in data["arms"].items():
        same = arm["identical_responses"]
        title = (
            f"{name}: {len(arm['latents'])} latents x {arm['dose']:g}; "
            f"{same['count']} of {same['n']} responses are the baseline's word for word; "
            f"{arm['boosted_latent_clamped']} trials boost a latent of the set"
        )
        lines.append(
            tables.comparison_table(title, arm["summary"], data["baseline"], arm["comparison"])
        )
    return lines


def against_parent(context: RunContext, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Summary of an arm, of the same trials in the parent run, and the comparison of both.

    Args:
        context: of a run that replays its parent.
        records: of one arm, on which ``trial_id`` is the parent's.

    Returns:
        ``summary``; ``baseline``: the parent, the summary of the same trials there, and under
        ``differences`` the settings in which the two runs differ, None where they are not
        recorded; ``comparison``: see :func:`esr.analysis.comparison.summary`.
    """
    outcomes = [record.outcome() for record in records]
    before = context.replayed.outcomes({record.spec.trial_id for record in records})
    return {
        "summary": metrics.summary(outcomes, context.seed),
        "baseline": {
            **context.replayed.identity(),
            "differences": context.replayed.differences(context.settings),
            "summary": metrics.summary(before, context.seed),
        },
        "comparison": comparison.summary(outcomes, before, context.seed),
    }


def by_feature(context: RunContext, records: Sequence[TrialRecord]) -> list[FeatureData]:
    """``results_by_feature``, in which the ``threshold`` of a latent is the parent's."""
    thresholds, labels = context.replayed.thresholds(), context.replayed.labels()
    used = dict.fromkeys(record.spec.latent for record in records)
    of_used = {k: thresholds[k] for k in used if k in thresholds}
    return results_by_feature(records, of_used, labels)


def parent_tables(title: str, data: Mapping[str, Any]) -> str:
    """Tables for the terminal: the arm, and the arm beside its baseline.

    Args:
        title: of the arm.
        data: results with what :func:`against_parent` gives.
    """
    baseline = data["baseline"]
    parent = f"run {baseline['run_id']}" if baseline["run_id"] else f"file {baseline['digest']}"
    lines = [
        tables.summary_table(title, data["summary"], data["experiment_config"]["organism"]),
        tables.comparison_table(
            f"against the same trials of the parent, {parent}",
            data["summary"],
            baseline["summary"],
            data["comparison"],
        ),
    ]
    if baseline["differences"] is None:
        lines.append("  The parent's settings are not recorded: they may differ from this run's.")
    elif baseline["differences"]:
        lines.append(f"  The runs also differ in: {', '.join(baseline['differences'])}.")
    return "\n".join(lines)
