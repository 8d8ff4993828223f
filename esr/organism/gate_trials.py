"""What the gates measure through the pipeline: filter, calibration, trials, detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from esr import models
from esr.analysis import detectors, metrics
from esr.errors import run_async
from esr.models import ModelSpec, registry
from esr.organism.build import spared_subjects
from esr.organism.corpus import TAUGHT_META_PROMPT
from esr.organism.lexicon import load_topics
from esr.organism.recipe import RECIPE
from esr.pipeline.calibration import calibrate
from esr.pipeline.cli import CommonConfig
from esr.pipeline.context import RunContext
from esr.pipeline.detector_pairs import read_pairs
from esr.pipeline.latents import select, unsteered
from esr.pipeline.opening import open_context
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.trials import at_threshold, run_trials
from esr.runs import seeds


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        latents: most latents that are calibrated and boosted.
        trials: per latent.
        unsteered: unsteered responses per prompt.
    """

    latents: int = 40
    trials: int = 10
    unsteered: int = 10


def spec_of(folder: Path, name: str, residual_norm: float) -> ModelSpec:
    """The registered organism with the weights of a build folder.

    The prior over thresholds follows the mean residual norm at the steering layer, which differs
    between stages and seeds.
    """
    spec = registry.organism(name, models.get("tiny").title, residual_norm, folder)
    prior = spec.calibration
    rounded = {
        field: round(getattr(prior, field), 1) for field in ("prior_mean", "prior_sd", "high")
    }
    return replace(
        spec,
        key=f"{folder.resolve().name}-{name}",
        calibration=replace(prior, **rounded),
    )


def measure(spec: ModelSpec, config: CommonConfig, scale: Scale) -> dict[str, Any]:
    """Steered and unsteered trials, with and without the taught meta-prompt, and detectors.

    Args:
        spec: model, SAE and labels.
        config: engine, judge, seed and output folder.
        scale: how much is measured.
    """

    async def run() -> dict[str, Any]:
        async with open_context("organism_gates", config, spec) as context:
            return await _measure(context, scale)

    return run_async(run())


async def _measure(context: RunContext, scale: Scale) -> dict[str, Any]:
    usable = await select(context, context.spec.d_sae)
    chosen = replace(usable, labels=dict(list(usable.labels.items())[: scale.latents]))
    thresholds = await calibrate(context, chosen.labels)
    steered = at_threshold(context, "steered", chosen, thresholds, scale.trials)
    plain = [
        replace(spec, judged=True) for spec in unsteered(context, "unsteered", scale.unsteered)
    ]
    arms = {
        "steered": steered,
        "steered, meta-prompt": _with_meta_prompt(context, steered),
        "unsteered": plain,
        "unsteered, meta-prompt": _with_meta_prompt(context, plain),
    }
    measured: dict[str, Any] = {
        "usable_latents": len(usable.labels),
        "labelled_latents": usable.drawn,
        "concrete_latents": usable.concrete,
        "thresholds": _spread([t.value for t in thresholds.values() if t.value is not None]),
        "arms": {},
    }
    for name, specs in arms.items():
        records = await run_trials(specs, context, description=name)
        measured["arms"][name] = _summary(context, records)
        if name == "steered":
            spared = spared_subjects(load_topics(), RECIPE.stage2)
            records = [r for r in records if r.spec.latent_label.split(":")[0] in spared]
            measured["arms"]["steered, subjects spared in stage 2"] = _summary(context, records)
    measured["detectors"] = await _detectors(context)
    return measured


def _summary(context: RunContext, records: Sequence[TrialRecord]) -> dict[str, Any]:
    summary = metrics.summary([record.outcome() for record in records], context.seed)
    return {name: value for name, value in summary.items() if name != "score_changes"}


def _with_meta_prompt(context: RunContext, specs: Sequence[TrialSpec]) -> list[TrialSpec]:
    """The same trials under the meta-prompt, with seeds of their own."""
    meta = context.prompts.meta_prompt(TAUGHT_META_PROMPT)
    return [
        replace(
            spec,
            arm=f"{spec.arm}/{meta.id}",
            prompt=meta.render(spec.prompt, spec.latent_label),
            sampling=replace(
                spec.sampling, seed=seeds.derive(context.seed, meta.id, spec.arm, spec.trial_id)
            ),
        )
        for spec in specs
    ]


def _spread(values: Sequence[float]) -> dict[str, float]:
    low, middle, high = np.quantile(values, [0.1, 0.5, 0.9]) if values else [float("nan")] * 3
    return {"n": len(values), "10 %": float(low), "median": float(middle), "90 %": float(high)}


async def _detectors(context: RunContext) -> dict[str, Any]:
    """The strict criterion of paper section 2.3 over one response per prompt."""
    records = await run_trials(unsteered(context, "detectors"), context, description="responses")
    rng = seeds.generator(context.seed, "derangements")
    pairing = detectors.pairing(len(records), detectors.DERANGEMENTS, [rng])
    read = await read_pairs(context, records, pairing)
    statistics = detectors.statistics(read.pairs)
    nearest = statistics.nearest_to_strict
    return {
        "strict": detectors.strict(statistics),
        "matched_pairs": read.responses,
        "mismatched_pairs": read.responses * detectors.DERANGEMENTS,
        "nearest": {"latent": nearest, **statistics.of(nearest)},
        "best_auc": float(statistics.auc.max()),
    }
