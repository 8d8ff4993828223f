"""Experiment 8: which trials, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esr import baseline, metrics, parent, results
from esr.experiment import Experiment
from esr.lab import Lab
from esr.models import ModelSpec
from esr.plan import Stage
from esr.trials import TrialRecord, TrialSpec
from experiment_08_no_steering_baseline.config import Config

ARM = "no-steering"


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """One response for each trial of the parent; without a parent, what it would have at most."""
    return [Stage("trials, no steering", parent.planned(config, spec), spec.max_tokens)]


async def specs(config: Config, lab: Lab) -> list[TrialSpec]:
    """The parent's trials, seeds included, with nothing boosted."""
    return lab.replayed.replay(lab, ARM, _unsteered, config.n_latents, config.n_trials)


def _unsteered(spec: TrialSpec) -> TrialSpec:
    return replace(spec, threshold=0.0, interventions=())


def outcome_results(config: Config, lab: Lab, records: list[TrialRecord]) -> dict[str, Any]:
    """``results.json``, in which a latent's ``threshold`` is the parent's and a trial's is 0."""
    compared = baseline.against_parent(lab, records)
    steered = lab.replayed.outcomes({record.spec.trial_id for record in records})
    compared["baseline"]["first_scores"] = metrics.first_scores(steered)
    return {
        "experiment_config": results.experiment_config(config.identity(), lab),
        **compared,
        "results_by_feature": baseline.by_feature(lab, records),
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
