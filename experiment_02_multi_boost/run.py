"""Experiment 2: which trials, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esr.analysis import comparison, metrics, tables
from esr.models import ModelSpec
from esr.pipeline import arms, latents, replay
from esr.pipeline.calibration import calibrate
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import Selection, Threshold, TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, calibration_stage, choosing_stage
from esr.pipeline.trials import at_threshold, by_feature
from esr.runs.plain import plain, restore
from esr.runs.trial_data import FeatureData
from esr.steering.interventions import Boost
from experiment_02_multi_boost.config import Config
from experiment_02_multi_boost.levels import NO_SWEEP, Level, Sweep, regions

CHEAPER = f"thresholds in the cache are free; python -m {replay.EXPERIMENT_1}"
NOTE = "the paper has 2,262 graded on 70B; its release says 25 latents x 10 prompts at each level"


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """The sweep; before it, without a run of experiment 1, the calibration that is not cached."""
    parent = replay.find_or_none(config, spec)
    if parent is not None:
        return [_sweep(config, spec, parent.replayable(config.n_latents, config.n_trials))]
    n = config.n_calibrated or spec.n_latents
    return [
        choosing_stage(config, spec),
        calibration_stage(config, spec, n, f"{CHEAPER} {spec.key} first makes this cheap"),
        _sweep(config, spec, min(config.n_latents or n, n) * (config.n_trials or spec.n_trials)),
    ]


def _sweep(config: Config, spec: ModelSpec, trials: int) -> Stage:
    name = f"trials, {config.n_boosts} boosts"
    return Stage(name, config.n_boosts * trials, spec.max_tokens, note=NOTE)


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """The same trials, seeds included, at every boost."""
    if context.parent is not None:
        thresholds = context.parent.thresholds()
        trials = context.parent.replay(
            context.prompts,
            context.sampling,
            "",
            n_latents=config.n_latents,
            n_trials=config.n_trials,
        )
    else:
        thresholds, trials = await _calibrated(config, context)

    async def sweep() -> dict[str, Any]:
        return dict(plain(Sweep.over(thresholds, config.n_boosts, config.span)))

    levels = restore(Sweep, await context.run.journal.once("sweep", "levels", sweep)).levels
    return [_at(level, spec) for level in levels for spec in trials]


async def _calibrated(
    config: Config, context: RunContext
) -> tuple[dict[int, Threshold], list[TrialSpec]]:
    """Thresholds and trials as experiment 1 would have them, from the cache where it has them."""
    n = config.n_calibrated or context.spec.n_latents
    selection = await latents.select(context, n, config.latent_filter)
    thresholds = await calibrate(context, selection.labels)
    usable = [k for k in selection.labels if thresholds[k].value is not None]
    few = replace(selection, labels={k: selection.labels[k] for k in usable[: config.n_latents]})
    n_trials = config.n_trials or context.spec.n_trials
    return thresholds, at_threshold(context, "", few, thresholds, n_trials)


def _at(level: Level, spec: TrialSpec) -> TrialSpec:
    boost = Boost(spec.latent, level.boost)
    return replace(spec, arm=level.arm, threshold=level.boost, interventions=(boost,))


def outcome_results(
    _config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json`` of experiment 2; a trial's ``threshold`` is its boost."""
    measured = context.run.journal.get("sweep", "levels")
    sweep = restore(Sweep, measured) if measured else NO_SWEEP
    return {
        "experiment_config": context.experiment_config(),
        "boost_levels": [level.boost for level in sweep.levels],
        "threshold_cache_stats": sweep.stats(),
        "levels": [_level(level, context, records) for level in sweep.levels],
        "shape": _shape(sweep, context, records),
        "results_by_feature": _latents(context, records),
    }


def _level(level: Level, context: RunContext, records: list[TrialRecord]) -> dict[str, Any]:
    outcomes = [r.outcome() for r in records if r.spec.arm == level.arm]
    return {**vars(level), "summary": metrics.summary(outcomes, context.seed)}


def _shape(sweep: Sweep, context: RunContext, records: list[TrialRecord]) -> dict[str, Any]:
    """Levels near the mean threshold against those below and above: a hump is more of both."""
    outcomes = {
        name: [r.outcome() for r in records if r.spec.arm in near]
        for name, near in regions(sweep.levels).items()
    }
    pairs = [("near", "below"), ("near", "above")]
    return {
        f"{a}_minus_{b}": comparison.differences(outcomes[a], outcomes[b], context.seed)
        for a, b in pairs
    }


def _latents(context: RunContext, records: list[TrialRecord]) -> list[FeatureData]:
    """Latents of the sweep, and those that have no threshold to be swept around."""
    if context.parent is not None:
        return arms.by_feature(context, records)
    labels = Selection.recorded(context.run.journal).labels
    used = {record.spec.latent for record in records}
    thresholds = Threshold.recorded(context.run.journal, labels)
    shown = {k: t for k, t in thresholds.items() if k in used or t.value is None}
    return by_feature(records, shown, labels)


def show(data: Mapping[str, Any]) -> str:
    """The table printed at the end: one line per boost."""
    config, stats = data["experiment_config"], data["threshold_cache_stats"]
    lines = [
        f"Boost sweep on {config['model_title']}, judge {config['judge_id']}",
        f"  thresholds of {stats['n']} latents: mean {stats['mean']:.2f}, sd {stats['std']:.2f}",
        f"  {'boost':>9}{'sd':>7}{'graded':>8}  {'multi-attempt, 95 % two-way':>30}"
        f"{'improved':>10}{'null':>9}  {'ESR, 95 % two-way':>28}{'first':>7}",
    ]
    lines += [_line(level) for level in data["levels"]]
    for name, side in (("below", "lower"), ("above", "higher")):
        against = data["shape"][f"near_minus_{name}"]
        lines.append(
            f"  within 1 sd of the mean, minus {side} boosts: multi-attempt "
            f"{tables.difference(against['multi_attempt_rate'], 100)}, "
            f"ESR {tables.difference(against['esr_rate'], 100)} points"
        )
    if config["organism"]:
        lines.append(f"  {tables.ORGANISM_NOTE}")
    lines += tables.latent_lines(data)
    return "\n".join(lines)


def _line(level: Mapping[str, Any]) -> str:
    summary = level["summary"]
    rates = [tables.rate(summary[key]) for key in ("multi_attempt_rate", "esr_rate")]
    improved = tables.percent(summary["conditional_improvement_rate"]["rate"])
    null = tables.percent(summary["redraw_null"]["rate"])
    first = tables.decimal(summary["mean_first_score"]["mean"], 1)
    return (
        f"  {level['boost']:>9.2f}{level['sd']:>7.2f}{summary['counts']['graded']:>8}  "
        f"{rates[0]:>30}{improved:>10}{null:>9}  {rates[1]:>28}{first:>7}"
    )


EXPERIMENT = Experiment("experiment_02_multi_boost", Config, stages, specs, outcome_results, show)
