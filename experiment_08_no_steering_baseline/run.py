"""Experiment 8: which trials, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esr.analysis import metrics
from esr.models import ModelSpec
from esr.pipeline import arms
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, planned_trials
from experiment_08_no_steering_baseline.config import Config

ARM = "no-steering"


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """One response for each trial of the parent; without a parent, what it would have at most."""
    n = planned_trials(config, spec)
    return [Stage("trials, no steering", n, spec.max_tokens, compared=2 * n)]


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """The parent's trials, seeds included, with nothing boosted."""
    return arms.replayed_trials(config, context, ARM, TrialSpec.unsteered)


def outcome_results(
    _config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``, in which a latent's ``threshold`` is the parent's and a trial's is 0."""
    compared = arms.against_parent(context, records)
    steered = context.replayed.outcomes({record.spec.trial_id for record in records})
    compared["baseline"]["first_scores"] = metrics.first_scores(steered)
    return {
        "experiment_config": context.experiment_config(),
        **compared,
        "results_by_feature": arms.by_feature(context, records),
    }


def show(data: Mapping[str, Any]) -> str:
    """The tables printed at the end."""
    config = data["experiment_config"]
    title = f"No steering, {config['model_title']}, judge {config['judge_id']}"
    return arms.parent_tables(title, data)


EXPERIMENT = Experiment(
    "experiment_08_no_steering_baseline", Config, stages, specs, outcome_results, show
)
