"""Experiment 5: which trials, and what is computed from them. One run per meta-prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esr.errors import UserError
from esr.models import ModelSpec, prompts
from esr.models.prompts import MetaPrompt, PromptSet
from esr.pipeline import arms
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, planned_trials
from esr.runs import seeds
from experiment_05_prompt_variants.config import Config


def variants(config: Config, prompt_set: PromptSet) -> dict[str, MetaPrompt]:
    """Meta-prompts by the name they were asked for, all of the prompt set where none was.

    Raises:
        UserError: an unknown id, or a prompt set that has none.
    """
    names = config.variants or tuple(item.id for item in prompt_set.meta_prompts)
    if not names:
        raise UserError(
            f"prompt set {prompt_set.name} has no meta-prompts",
            "templates with {prompt} and optionally {latent_label}",
            "--variants '{prompt} Stay on topic.'",
        )
    return {name: prompt_set.meta_prompt(name) for name in names}


def runs(config: Config, spec: ModelSpec) -> list[Config]:
    """One run per meta-prompt, so that each file holds one variant, as in the authors' schema."""
    chosen = variants(config, prompts.load(config.prompts, spec.prompt_set))
    return [replace(config, variants=(name,)) for name in chosen]


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """For each variant, one response per trial of the parent."""
    count = planned_trials(config, spec)
    chosen = variants(config, prompts.load(config.prompts, spec.prompt_set))
    return [
        Stage(item.id, count, spec.max_tokens, template=item.template, compared=2 * count)
        for item in chosen.values()
    ]


def _variant(config: Config, context: RunContext) -> MetaPrompt:
    (item,) = variants(config, context.prompts).values()
    return item


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """The parent's trials under one meta-prompt, with new seeds; the judge sees the full prompt."""
    item = _variant(config, context)

    def change(spec: TrialSpec) -> TrialSpec:
        seed = seeds.derive(context.seed, "prompt variant", item.id, spec.trial_id)
        return replace(
            spec.unsteered() if config.no_steering else spec,
            prompt=item.render(spec.prompt, spec.latent_label),
            sampling=replace(spec.sampling, seed=seed),
        )

    arm = f"{item.id}/no-steering" if config.no_steering else item.id
    return arms.replayed_trials(config, context, arm, change)


def outcome_results(
    config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json`` of one variant."""
    item = _variant(config, context)
    return {
        "experiment_config": {
            **context.experiment_config(),
            "prompt_variant_id": item.id,
            "prompt_variant_template": item.template,
        },
        **arms.against_parent(context, records),
        "results_by_feature": arms.by_feature(context, records),
    }


def show(data: Mapping[str, Any]) -> str:
    """The tables printed at the end of a variant."""
    config = data["experiment_config"]
    steered = ", no steering" if config["no_steering"] else ""
    title = f"{config['prompt_variant_id']}{steered}, {config['model_title']}"
    return arms.parent_tables(f"{title}, judge {config['judge_id']}", data)


EXPERIMENT = Experiment(
    "experiment_05_prompt_variants", Config, stages, specs, outcome_results, show, runs=runs
)
