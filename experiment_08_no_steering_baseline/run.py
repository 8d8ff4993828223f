"""Experiment 8: which trials, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esr.analysis import metrics
from esr.models import ModelSpec
from esr.pipeline import baseline, dry_run, results
from esr.pipeline.context import RunContext
from esr.pipeline.dry_run import Stage
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import TrialRecord, TrialSpec
from experiment_08_no_steering_baseline.config import Config

ARM = "no-steering"


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """One response for each trial of the parent; without a parent, what it would have at most."""
    return [Stage("trials, no steering", dry_run.planned_trials(config, spec), spec.max_tokens)]


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """The parent's trials, seeds included, with nothing boosted."""
    return context.replayed.replay(
        context.prompts, context.sampling, ARM, _unsteered, config.n_latents, config.n_trials
    )


def _unsteered(spec: TrialSpec) -> TrialSpec:
    return replace(spec, threshold=0.0, interventions=())


def outcome_results(
    config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``, in which a latent's ``threshold`` is the parent's and a trial's is 0."""
    compared = baseline.against_parent(context, records)
    steered = context.replayed.outcomes({record.spec.trial_id for record in records})
    compared["baseline"]["first_scores"] = metrics.first_scores(steered)
    return {
        "experiment_config": results.experiment_config(config.identity(), context),
        **compared,
        "results_by_feature": baseline.by_feature(context, records),
    }


def show(found: Mapping[str, Any]) -> str:
    """The tables printed at the end."""
    facts = found["experiment_config"]
    title = f"No steering, {facts['model_title']}, judge {facts['judge_id']}"
    return baseline.shown(title, found)


EXPERIMENT = Experiment(
    name="experiment_08_no_steering_baseline",
    config=Config,
    stages=stages,
    specs=specs,
    results=outcome_results,
    report=show,
)
