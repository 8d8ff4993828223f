"""Experiment 1: which trials, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esr.analysis import achieved, metrics, tables
from esr.models import ModelSpec
from esr.pipeline import latents
from esr.pipeline.calibration import calibrate
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import Selection, Threshold, TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, calibration_stage, choosing_stage
from esr.pipeline.trials import at_threshold, by_feature
from experiment_01_esr.config import Config

ARM = "steered"


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """Calibration and trials, as an upper bound."""
    n = config.n_latents or spec.n_latents
    trials = n * (config.n_trials or spec.n_trials)
    return [
        choosing_stage(config, spec),
        calibration_stage(config, spec, n),
        Stage("trials", trials, spec.max_tokens, compared=trials),
    ]


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """Choose latents, calibrate them, and make the trials of each."""
    n = config.n_latents or context.spec.n_latents
    selection = await latents.select(context, n, config.latent_filter)
    thresholds = await calibrate(context, selection.labels)
    return at_threshold(
        context, ARM, selection, thresholds, config.n_trials or context.spec.n_trials
    )


def outcome_results(
    config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json`` of experiment 1."""
    selection = Selection.recorded(context.run.journal)
    thresholds = Threshold.recorded(context.run.journal, selection.labels)
    outcomes = [record.outcome() for record in records]
    found = [t.value for t in thresholds.values() if t.value is not None]
    bounds = context.spec.calibration
    n_trials = config.n_trials or context.spec.n_trials
    features = by_feature(records, thresholds, selection.labels)
    scores = achieved.achieved_scores(outcomes)
    for feature in features:
        feature["achieved_score"] = scores.get(feature["feature_index_in_sae"])
    return {
        "experiment_config": context.experiment_config(),
        "selection": selection.counts(thresholds),
        "summary": metrics.summary(outcomes, context.seed),
        "achieved": achieved.achieved(outcomes, found, bounds.low, bounds.high),
        "sensitivity": achieved.sensitivity(outcomes, len(thresholds) - len(found), n_trials),
        "results_by_feature": features,
    }


def show(data: Mapping[str, Any]) -> str:
    """The table printed at the end."""
    config = data["experiment_config"]
    title = f"ESR on {config['model_title']}, judge {config['judge_id']}"
    table = tables.summary_table(title, data["summary"], config["organism"])
    return "\n".join([table, *achieved.lines(data), *tables.latent_lines(data)])


EXPERIMENT = Experiment("experiment_01_esr", Config, stages, specs, outcome_results, show)
