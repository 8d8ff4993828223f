"""Evaluation: the base model and each fine-tuned one, steered and unsteered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from esr.analysis import comparison, metrics, tables
from esr.analysis.outcomes import outcomes_from_results
from esr.judge.ledger import Ledger
from esr.models import ModelSpec
from esr.pipeline import latents
from esr.pipeline.calibration import calibrate
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment, conduct
from esr.pipeline.opening import open_context
from esr.pipeline.schema import Selection, Threshold, TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, calibration_stage, choosing_stage
from esr.pipeline.trials import at_threshold, by_feature
from esr.runs.plain import restore
from experiment_04_finetuning.config import (
    BaseConfig,
    Config,
    base_config,
    fine_tuned_config,
)
from experiment_04_finetuning.sweep import Sweep

NAME = "experiment_04_finetuning"
STEERED, UNSTEERED = "steered", "unsteered"
PERCENT, SEED = "self_correction_percent", "training_seed"


def stages(config: BaseConfig, spec: ModelSpec, models: int = 1) -> list[Stage]:
    """Calibration and both arms of so many models, as an upper bound."""
    n = models * (config.n_latents or spec.n_latents)
    trials = n * (config.n_trials or spec.n_trials)
    return [
        choosing_stage(config, spec),
        calibration_stage(config, spec, n),
        Stage(STEERED, trials, spec.max_tokens),
        Stage(UNSTEERED, trials, spec.max_tokens),
    ]


async def specs(config: BaseConfig, context: RunContext) -> list[TrialSpec]:
    """Both arms, at thresholds of this model's own.

    The base model's latents are chosen; a fine-tuned model has the same ones, and its prompts.
    """
    if context.parent is None:
        n = config.n_latents or context.spec.n_latents
        selection = await latents.select(context, n, config.latent_filter)
    else:
        selection = _of_base(context)
    thresholds = await calibrate(context, selection.labels)
    n_trials = config.n_trials or context.spec.n_trials
    steered = at_threshold(context, STEERED, selection, thresholds, n_trials)
    return steered + [replace(spec.unsteered(), arm=UNSTEERED) for spec in steered]


def _of_base(context: RunContext) -> Selection:
    """The latents of the base model's run."""
    recorded = context.replayed.results.raw["selection"]
    return restore(Selection, {**recorded, "labels": context.replayed.labels()})


def outcome_results(
    config: BaseConfig, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``; of a fine-tuned model also both arms against the base model's."""
    parent = context.parent
    selection = _of_base(context) if parent else Selection.recorded(context.run.journal)
    thresholds = Threshold.recorded(context.run.journal, selection.labels)
    outcomes = {
        arm: [record.outcome() for record in records if record.spec.arm == arm]
        for arm in (STEERED, UNSTEERED)
    }
    against: dict[str, Any] = {}
    if parent is not None:
        against = {**parent.identity(), "differences": parent.differences(context.settings)}
        for arm, own in outcomes.items():
            before = outcomes_from_results(parent.results, arm)
            against[arm] = comparison.summary(own, before, context.seed)
    return {
        "experiment_config": {
            **context.experiment_config(),
            "base_model": config.base,
            PERCENT: config.percent,
            SEED: config.training_seed,
            "train_prompts": config.train_prompts,
        },
        "selection": {**selection.counts(thresholds), "barred": selection.barred},
        "summary": metrics.summary(outcomes[STEERED], context.seed),
        "unsteered": metrics.summary(outcomes[UNSTEERED], context.seed),
        "results_by_feature": by_feature(records, thresholds, selection.labels),
        **({"against_base": against} if against else {}),
    }


def show(data: Mapping[str, Any]) -> str:
    """The tables printed for one model."""
    config = data["experiment_config"]
    lines = [
        tables.summary_table(f"{config['model_title']}, {arm}", data[key], config["organism"])
        for arm, key in ((STEERED, "summary"), (UNSTEERED, "unsteered"))
    ]
    return "\n".join([*lines, *tables.latent_lines(data)])


EXPERIMENT: Experiment[BaseConfig] = Experiment(
    NAME, BaseConfig, stages, specs, outcome_results, show
)


async def evaluate(config: Config, sweeps: Sequence[Sweep]) -> list[dict[str, Any]]:
    """Evaluate the base model, then each fine-tuned one, each in a run folder of its own.

    Args:
        config: the options.
        sweeps: the same base model and data, one per training seed.

    Returns:
        Results of all models, the base model's first.

    Raises:
        UserError: a model has not been trained.
        SpendLimitError: the limit is reached.
    """
    percents = config.data.percents
    models = [(sweep, n, sweep.fine_tuned(n)) for sweep in sweeps for n in percents]
    ledger = Ledger(config.max_spend)
    async with open_context(NAME, base_config(config), sweeps[0].spec, ledger=ledger) as context:
        evaluated = [await conduct(EXPERIMENT, base_config(config), context)]
        base_run = context.run.path
    print(show(evaluated[0]), flush=True)
    for sweep, percent, spec in models:
        settings = fine_tuned_config(config, sweep, percent, Path(base_run))
        async with open_context(NAME, settings, spec, ledger=ledger) as context:
            evaluated.append(await conduct(EXPERIMENT, settings, context))
        print(show(evaluated[-1]), flush=True)
    return evaluated


def sweep_table(evaluated: Sequence[Mapping[str, Any]]) -> str:
    """All models below each other: rates with intervals by latent."""
    header = f"{'% self-correction':>18}{'training seed':>15}  {'arm':10}"
    lines = [f"{header}{'multi-attempt':>28}{'ESR':>28}"]
    for entry in evaluated:
        for arm, key in ((STEERED, "summary"), (UNSTEERED, "unsteered")):
            cells = [tables.rate(entry[key][rate]) for rate in ("multi_attempt_rate", "esr_rate")]
            percent, seed = (entry["experiment_config"][name] for name in (PERCENT, SEED))
            named = f"{percent:>18}{seed if percent else '':>15}  {arm:10}"
            lines.append(f"{named}{cells[0]:>28}{cells[1]:>28}")
    return "\n".join(lines)
