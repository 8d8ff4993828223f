"""Experiment 5: which trials, and what is computed from them. One run per meta-prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from esr import baseline, parent, prompts, results, seeds
from esr.errors import UserError
from esr.experiment import Experiment
from esr.lab import Lab
from esr.models import ModelSpec
from esr.plan import Stage
from esr.prompts import MetaPrompt, PromptSet
from esr.trials import TrialRecord, TrialSpec
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
    count = parent.planned(config, spec)
    chosen = variants(config, prompts.load(config.prompts, spec.prompt_set))
    return [
        Stage(item.id, count, spec.max_tokens, template=item.template) for item in chosen.values()
    ]


def _variant(config: Config, lab: Lab) -> MetaPrompt:
    (item,) = variants(config, lab.prompts).values()
    return item


async def specs(config: Config, lab: Lab) -> list[TrialSpec]:
    """The parent's trials under one meta-prompt, with new seeds; the judge sees the full prompt."""
    item = _variant(config, lab)

    def change(spec: TrialSpec) -> TrialSpec:
        seed = seeds.derive(lab.seed, "prompt variant", item.id, spec.trial_id)
        return replace(
            spec,
            prompt=item.render(spec.prompt, spec.latent_label),
            sampling=replace(spec.sampling, seed=seed),
            threshold=0.0 if config.no_steering else spec.threshold,
            interventions=() if config.no_steering else spec.interventions,
        )

    arm = f"{item.id}/no-steering" if config.no_steering else item.id
    return lab.replayed.replay(lab, arm, change, config.n_latents, config.n_trials)


def outcome_results(config: Config, lab: Lab, records: list[TrialRecord]) -> dict[str, Any]:
    """``results.json`` of one variant."""
    item = _variant(config, lab)
    return {
        "experiment_config": {
            **results.experiment_config(config.identity(), lab),
            "prompt_variant_id": item.id,
            "prompt_variant_template": item.template,
        },
        **baseline.against_parent(lab, records),
        "results_by_feature": baseline.by_feature(lab, records),
    }


def show(found: Mapping[str, Any]) -> str:
    """The tables printed at the end of a variant."""
    facts = found["experiment_config"]
    steered = ", no steering" if facts["no_steering"] else ""
    title = f"{facts['prompt_variant_id']}{steered}, {facts['model_title']}"
    return baseline.shown(f"{title}, judge {facts['judge_id']}", found)


EXPERIMENT = Experiment(
    name="experiment_05_prompt_variants",
    config=Config,
    stages=stages,
    specs=specs,
    results=outcome_results,
    report=show,
    runs=runs,
)
