"""Experiment 12, compare: values at equal effect, the parent's trials under each, and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from esr.analysis import comparison, metrics
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.weights import shape_of
from esr.pipeline import divergence
from esr.pipeline.arms import Baseline, by_feature, replayed_trials
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.settings import check_layers
from esr.pipeline.stages import Stage, calibration_stage
from esr.pipeline.trials import run_trials
from esr.runs.plain import plain
from experiment_12_steering_operators import tables
from experiment_12_steering_operators.config import Config
from experiment_12_steering_operators.values import Values, equal_divergence, equal_score
from experiment_12_steering_operators.variants import Concepts, Variant, variants

NAME = "experiment_12_steering_operators"
FILE = "file"
"""Arm of a steering file."""


def calibrations(config: Config) -> list[str]:
    """A sweep compares layers at equal divergence alone."""
    return ["kl"] if config.layer_sweep else list(config.calibrations)


def layers_of(config: Config, spec: ModelSpec) -> tuple[int, ...]:
    """Layers at which anything is read or steered."""
    chosen = {layer for variant in _variants(config, spec) for layer in variant.layers}
    named = config.file.layers if config.steering else ()
    return tuple(sorted({spec.steering_layer, *chosen, *named}))


def _variants(config: Config, spec: ModelSpec) -> list[Variant]:
    shape = shape_of(spec)
    if config.layer_sweep and not config.layers and shape is None:
        raise UserError(
            f"--layer-sweep over a model whose layers are not known here ({spec.key})",
            "layers by number",
            f"--layers {spec.steering_layer}",
        )
    return variants(config, shape.layers if shape else 0)


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """As an upper bound: every search to its end, every operator of use."""
    check_layers("--layers", config.layers, spec)
    made = _variants(config, spec)
    n_latents, n = config.latents, config.latents * config.trials
    texts = config.n_texts * (n_latents + 1)
    new = [variant for variant in made if not variant.is_parent(config.scope)]
    kinds = calibrations(config)
    draws = divergence.N_PROMPTS * n_latents
    searches = draws * (len(new) * (divergence.STEPS * ("kl" in kinds) + ("score" in kinds)) + 1)
    arms = len(new) * len(kinds) + bool(config.steering)
    result = [
        Stage("texts", texts, min(128, spec.max_tokens), judged=False),
        Stage("states", 0, 0, judged=False, reads=texts * len(layers_of(config, spec))),
    ]
    if "score" in kinds and new:
        result.append(calibration_stage(config, spec, n_latents * len(new)))
    return [
        *result,
        Stage("divergence", searches, divergence.N_TOKENS, judged=False, reads=2 * searches),
        Stage(f"trials, {arms} arms", n * arms, spec.max_tokens, reads=config.geometry * arms),
    ]


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """Texts, directions, values, and the parent's trials under each operator."""
    parents = parent_trials(config, context)
    labels = {spec.latent: spec.latent_label for spec in parents}
    layers = layers_of(config, context.spec)
    concepts = await Concepts.read(context, labels, config, layers)
    found = await _values(config, context, concepts)
    made: list[TrialSpec] = []
    for values in found:
        if values.variant.is_parent(config.scope):
            records = _parents_records(context, parents)
        else:
            trials = steered(parents, concepts, values)
            made += trials
            records = await run_trials(trials, context, description=values.arm)
        shape = await _geometry(config, context, records, values)
        context.run.journal.put("operator", values.arm, {**_plain(values), "geometry": shape})
    return [*made, *await _under_file(config, context, parents)] if config.steering else made


async def _under_file(
    config: Config, context: RunContext, parents: Sequence[TrialSpec]
) -> list[TrialSpec]:
    """The parent's trials under the steering file, which nothing calibrates."""
    values = Values(Variant(FILE, config.file.layers), "none")
    trials = [replace(spec, arm=FILE, interventions=config.file.interventions) for spec in parents]
    records = await run_trials(trials, context, description=FILE)
    shape = await _geometry(config, context, records, values)
    context.run.journal.put("operator", FILE, {**_plain(values), "geometry": shape})
    return trials


def parent_trials(config: Config, context: RunContext) -> list[TrialSpec]:
    """The parent's trials that are replayed."""
    limited = replace(config, n_latents=config.latents, n_trials=config.trials)
    return replayed_trials(limited, context, "boost")


def steered(parents: Sequence[TrialSpec], concepts: Concepts, values: Values) -> list[TrialSpec]:
    """The parent's trials with an operator at its values; latents without one are left out."""
    return [
        replace(
            spec,
            arm=values.arm,
            threshold=values.by_latent[spec.latent],
            interventions=concepts.at(values.variant, spec.latent, values.by_latent[spec.latent]),
        )
        for spec in parents
        if spec.latent in values.by_latent
    ]


async def _values(config: Config, context: RunContext, concepts: Concepts) -> list[Values]:
    made = _variants(config, context.spec)
    thresholds = context.replayed.thresholds()
    # What the parent's boosts do: the target of all, whether or not boost is among the operators.
    anchor = await equal_score(context, concepts, Variant("boost"), thresholds)
    targets = {latent: found.nats for latent, found in anchor.divergence.items() if found.nats > 0}
    found = []
    kinds = calibrations(config)
    total = len(made) * len(kinds)
    with context.progress(total, "operators") as progress:
        for variant in made:
            if "score" in kinds:
                found.append(await equal_score(context, concepts, variant, thresholds))
            if "kl" in kinds and not (variant.is_parent(config.scope) and "score" in kinds):
                starts = anchor.by_latent
                found.append(await equal_divergence(context, concepts, variant, targets, starts))
            progress.step(len(kinds))
    return found


async def _geometry(
    config: Config, context: RunContext, records: Sequence[TrialRecord], values: Values
) -> dict[str, Any] | None:
    from esr.directions.geometry import geometry

    found = await geometry(context, records, config.geometry, values.arm)
    return None if found is None else dict(plain(found))


def _parents_records(context: RunContext, parents: Sequence[TrialSpec]) -> list[TrialRecord]:
    """The parent's responses as records: their tokens are made again from the text."""
    responses = Baseline.of_parent(context.replayed, parents).responses
    return [
        TrialRecord(spec, response=text, token_ids=context.chat.response_ids(text)[0])
        for spec in parents
        if (text := responses.get(spec.trial_id))
    ]


def _plain(values: Values) -> dict[str, Any]:
    nats = [found.nats for found in values.divergence.values()]
    return {
        "operator": values.variant.operator,
        "layers": list(values.variant.layers),
        "calibration": values.calibration,
        "values": {str(k): value for k, value in values.by_latent.items()},
        "failed": {str(k): reason for k, reason in values.failed.items()},
        "divergence": fmean(nats) if nats else None,
        "divergences": {str(k): found.nats for k, found in values.divergence.items()},
    }


def outcome_results(
    config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json`` of experiment 12."""
    parents = parent_trials(config, context)
    before = context.replayed.outcomes({spec.trial_id for spec in parents})
    arms: dict[str, Any] = {}
    for name, entry in context.run.journal.values("operator"):
        outcomes = [record.outcome() for record in records if record.spec.arm == name]
        is_parent = Variant(entry["operator"], tuple(entry["layers"])).is_parent(config.scope)
        shared = {outcome.trial_id for outcome in outcomes}
        same = [outcome for outcome in before if outcome.trial_id in shared]
        arms[name] = {
            **entry,
            "parent": is_parent,
            "summary": metrics.summary(before if is_parent else outcomes, context.seed),
            "comparison": (
                comparison.summary(outcomes, same, context.seed) if outcomes and same else None
            ),
        }
    return {
        "experiment_config": context.experiment_config(),
        "parent": context.replayed.identity(),
        "differences": context.replayed.differences(context.settings),
        "baseline": metrics.summary(before, context.seed),
        "arms": arms,
        "results_by_feature": by_feature(context, records),
    }


def show(data: Mapping[str, Any]) -> str:
    """The table printed at the end."""
    return tables.operators(data)


EXPERIMENT = Experiment(
    NAME, Config, stages, specs, outcome_results, show, f"{NAME} compare", layers=layers_of
)
