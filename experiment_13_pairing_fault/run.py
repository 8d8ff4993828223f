"""Experiment 13: which trials, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from esr.analysis import pairing, tables
from esr.models import ModelSpec
from esr.pipeline import arms
from esr.pipeline.calibration import calibrate
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import Threshold, TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, calibration_stage, planned_trials
from esr.pipeline.trials import by_feature
from esr.runs.trial_data import FeatureData
from esr.steering.interventions import Boost
from experiment_13_pairing_fault.config import Config

LIKE_ALONE = "with one in flight the wrong pairing is the right one: a plain replay"


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """A replay per dose, and the calibration under the fault where it is asked for."""
    trials = planned_trials(config, spec)
    plan = []
    for part in config.parts():
        if part.thresholds == "fault":
            latents = min(part.n_latents or spec.n_latents, spec.n_latents)
            plan.append(calibration_stage(config, spec, latents, "under the fault"))
        name = f"trials, {part.in_flight} in flight"
        note = LIKE_ALONE if part.in_flight == 1 else ""
        plan.append(Stage(name, trials, spec.max_tokens, note=note, in_flight=part.in_flight))
    return plan


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """The parent's trials, seeds included, at its thresholds or at those of this run."""
    asked = arms.replayed_trials(config, context, _arm(config))
    if config.thresholds != "fault":
        return asked
    labels = {spec.latent: spec.latent_label for spec in asked}
    thresholds = await calibrate(context, labels)
    return [
        _at(spec, value) for spec in asked if (value := thresholds[spec.latent].value) is not None
    ]


def _arm(config: Config) -> str:
    suffix = ", calibrated under the fault" if config.thresholds == "fault" else ""
    return f"{config.in_flight} in flight{suffix}"


def _at(spec: TrialSpec, boost: float) -> TrialSpec:
    return replace(spec, threshold=boost, interventions=(Boost(spec.latent, boost),))


def outcome_results(
    config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``: the arm beside the parent, and whose intervention reached its tokens."""
    return {
        "experiment_config": context.experiment_config(),
        "in_flight": config.in_flight,
        "thresholds_from": config.thresholds,
        **arms.against_parent(context, records),
        "steered_by": pairing.steered_by([_tokens(record) for record in records]),
        "boosts": _boosts(context, records),
        "results_by_feature": _latents(config, context, records),
    }


def _tokens(record: TrialRecord) -> pairing.Tokens:
    return pairing.Tokens(record.outcome(), record.pairing or {})


def _boosts(context: RunContext, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Mean boost of the latents here and in the parent."""
    here = {record.spec.latent: record.spec.threshold for record in records}
    theirs = context.replayed.thresholds()
    before = [t.value for k in here if (t := theirs.get(k)) and t.value is not None]
    return {
        "latents": len(here),
        "mean": sum(here.values()) / len(here) if here else None,
        "parent_mean": sum(before) / len(before) if before else None,
    }


def _latents(
    config: Config, context: RunContext, records: Sequence[TrialRecord]
) -> list[FeatureData]:
    """Latents with the thresholds of this run, those that failed included."""
    if config.thresholds != "fault":
        return arms.by_feature(context, records)
    labels = context.replayed.labels()
    return by_feature(records, Threshold.recorded(context.run.journal, labels), labels)


def show(data: Mapping[str, Any]) -> str:
    """The tables printed at the end of each run."""
    config, steered = data["experiment_config"], data["steered_by"]
    where = "parent" if data["thresholds_from"] == "parent" else "calibrated under the fault"
    title = (
        f"{data['in_flight']} in flight, pairing {config['pairing']}, boosts {where}, "
        f"{config['model_title']}, judge {config['judge_id']}"
    )
    share = steered["other"]
    lines = [arms.parent_tables(title, data)]
    if share["rate"] is not None:
        lines.append(
            f"  tokens steered by another intervention {tables.rate(share)}, by none "
            f"{tables.percent(steered['none']['rate'])}, of {steered['tokens']:,}"
        )
    else:
        lines.append("  the engine did not count whose intervention reached the tokens")
    return "\n".join(lines)


EXPERIMENT = Experiment(
    "experiment_13_pairing_fault",
    Config,
    stages,
    specs,
    outcome_results,
    show,
    runs=lambda config, _spec: config.parts(),
)
