"""Ablation: the trials of experiment 1 once more, with the detectors clamped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esr.analysis import metrics, tables
from esr.models import ModelSpec
from esr.pipeline.arms import Arm, Baseline, arm_results, arm_tables, by_feature, replayed_trials
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import Selection, TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, planned_trials
from esr.pipeline.trials import at_threshold
from experiment_03_off_topic_detectors.config import AblateConfig

BASELINE = "baseline"


def arms(config: AblateConfig) -> list[Arm]:
    """The conditions the options ask for."""
    detectors = config.detector_set
    conditions = [
        Arm("ablation" if dose == 0 else f"dose-{dose:g}", detectors.latents, dose)
        for dose in config.doses
    ]
    if config.split == "sign":
        parts = detectors.by_sign()
        conditions += [
            Arm(f"ablation-{name}", latents) for name, latents in parts.items() if latents
        ]
    return conditions


def stages(config: AblateConfig, spec: ModelSpec) -> list[Stage]:
    """Trials per arm, as an upper bound."""
    n = planned_trials(config, spec)
    count = len(config.doses) + 2 * (config.split == "sign") + bool(config.prompts)
    return [Stage(f"{count} arms", n * count, spec.max_tokens, compared=2 * n)]


async def specs(config: AblateConfig, context: RunContext) -> list[TrialSpec]:
    """The parent's trials per arm; with other prompts, a baseline arm of their own as well."""
    config.detector_set.check(context)
    replayed = base_specs(config, context)
    trials = list(replayed) if config.prompts else []
    for arm in arms(config):
        trials += [arm.change(spec) for spec in replayed]
    return trials


def base_specs(config: AblateConfig, context: RunContext) -> list[TrialSpec]:
    """The trials without clamps: the parent's, or new ones at its thresholds for new prompts.

    With ``--prompts`` the latents and thresholds are the parent's and the prompts those named,
    such as the held-out ones (paper v2), which neither the search nor the calibration has seen.
    """
    replayed = context.replayed
    if not config.prompts:
        return replayed_trials(config, context, BASELINE)
    thresholds = replayed.thresholds()
    calibrated = {k: label for k, label in replayed.labels().items() if k in thresholds}
    labels = dict(list(calibrated.items())[: config.n_latents])
    n_trials = config.n_trials or context.spec.n_trials
    return at_threshold(context, BASELINE, Selection(labels), thresholds, n_trials)


def outcome_results(
    config: AblateConfig, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json`` of the ablation."""
    replayed = base_specs(config, context)
    own = [record for record in records if record.spec.arm == BASELINE]
    baseline = (
        Baseline.of_records(own)
        if config.prompts
        else Baseline.of_parent(context.replayed, replayed)
    )
    detectors = config.detector_set
    return {
        "experiment_config": context.experiment_config(),
        "ablated_latents": list(detectors.latents),
        "detectors": {"method": detectors.method, "model_name": detectors.model_name},
        "parent": context.replayed.identity(),
        "differences": context.replayed.differences(context.settings),
        "baseline": metrics.summary(baseline.outcomes, context.seed),
        "arms": arm_results(arms(config), records, baseline, context.seed),
        "results_by_feature": by_feature(context, records),
    }


def show(data: Mapping[str, Any]) -> str:
    """Each arm beside the baseline."""
    config, detectors = data["experiment_config"], data["detectors"]
    lines = [
        f"Detectors of {config['model_title']}: {len(data['ablated_latents'])} latents chosen by "
        f"{detectors['method']}, judge {config['judge_id']}, prompts {config['prompt_set']}"
    ]
    if detectors["method"] == "separability":
        lines.append(
            "  (the most separable latents; the strict criterion is another list of the file)"
        )
    lines += arm_tables(data)
    if data["differences"]:
        lines.append("  settings that differ from the baseline: " + ", ".join(data["differences"]))
    if config["organism"]:
        lines.append(f"  {tables.ORGANISM_NOTE}")
    return "\n".join(lines)


EXPERIMENT = Experiment(
    "experiment_03_off_topic_detectors",
    AblateConfig,
    stages,
    specs,
    outcome_results,
    show,
    command="experiment_03_off_topic_detectors ablate",
)
