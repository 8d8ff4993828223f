"""Experiment 12, defend: a boost pushes away from the question, an operator steers back to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from esr.analysis import metrics
from esr.analysis.outcomes import Outcome
from esr.errors import UserError
from esr.models import ModelSpec
from esr.pipeline.arms import by_feature, replayed_trials
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.settings import check_layers
from esr.pipeline.stages import Stage
from esr.pipeline.trials import run_trials
from esr.runs.plain import plain
from esr.steering.interventions import Slot
from experiment_12_steering_operators import tables
from experiment_12_steering_operators.config import DefenceConfig
from experiment_12_steering_operators.variants import read_concepts

NAME = "experiment_12_defence"
UNSTEERED = "unsteered"


@dataclass(frozen=True)
class Guard:
    """One operator at one strength."""

    operator: str
    strength: float

    @property
    def name(self) -> str:
        """E.g. "sttp 6"."""
        return f"{self.operator} {self.strength:g}"


def guards(config: DefenceConfig) -> Iterator[Guard]:
    """All of the options."""
    for operator, strengths in config.strengths.items():
        yield from (Guard(operator, strength) for strength in strengths)


def layers_of(config: DefenceConfig, spec: ModelSpec) -> tuple[int, ...]:
    """Where the defence acts: by default behind the boost."""
    return config.defence_layers or (spec.steering_layer + 1,)


def stages(config: DefenceConfig, spec: ModelSpec) -> list[Stage]:
    """Texts, and every trial with and without a boost under every guard."""
    layers = layers_of(config, spec)
    check_layers("--defence-layers", layers, spec)
    texts, n = config.n_texts * (config.latents + 1), config.latents * config.trials
    arms = 2 * len(list(guards(config)))
    return [
        Stage("texts", texts, min(128, spec.max_tokens), judged=False),
        Stage("states", 0, 0, judged=False, reads=texts * len(layers)),
        Stage("unsteered", n, spec.max_tokens),
        Stage(f"trials, {arms} arms", n * arms, spec.max_tokens, reads=config.geometry * arms),
    ]


async def specs(config: DefenceConfig, context: RunContext) -> list[TrialSpec]:
    """The parent's trials, unsteered and under every guard, with their boost and without it."""
    from esr.directions.geometry import geometry

    parents = parent_trials(config, context)
    guarded, failed = await _slots(config, context, parents)
    context.run.journal.put("operator", "failed", {"failed": failed})
    usable = [spec for spec in parents if str(spec.latent) not in failed]
    made = [replace(spec.unsteered(), arm=UNSTEERED) for spec in usable]
    for guard in guards(config):
        defended = []
        for spec in usable:
            slots = guarded[guard, spec.latent]
            both = (*spec.interventions, *slots)
            defended.append(replace(spec, arm=guard.name, interventions=both))
            alone = replace(spec.unsteered(), arm=f"clean {guard.name}", interventions=slots)
            made.append(alone)
        made += defended
        records = await run_trials(defended, context, description=guard.name)
        shape = await geometry(
            context, records, config.geometry, guard.name, layers=layers_of(config, context.spec)
        )
        entry = {"geometry": None if shape is None else plain(shape)}
        context.run.journal.put("operator", guard.name, entry)
    return made


def parent_trials(config: DefenceConfig, context: RunContext) -> list[TrialSpec]:
    """The parent's trials that are replayed."""
    limited = replace(config, n_latents=config.latents, n_trials=config.trials)
    return replayed_trials(limited, context, "boost")


async def _slots(
    config: DefenceConfig, context: RunContext, parents: Sequence[TrialSpec]
) -> tuple[dict[tuple[Guard, int], tuple[Slot, ...]], dict[str, str]]:
    """Slots of every guard and latent; and latents without a direction, with the reason."""
    from esr.steering.operators import Steer

    layers = layers_of(config, context.spec)
    slots: dict[tuple[Guard, int], tuple[Slot, ...]] = {}
    failed: dict[str, str] = {}
    labels = {spec.latent: spec.latent_label for spec in parents}
    for latent, concept in (await read_concepts(context, labels, config, layers)).items():
        try:
            away = concept.turned().direction("logistic")
            for guard in guards(config):
                steer = Steer(away, guard.operator, guard.strength, layers, config.scope)
                slots[guard, latent] = steer.slots
        except UserError as error:
            failed[str(latent)] = error.problem
    return slots, failed


def outcome_results(
    config: DefenceConfig, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json`` of the defence."""
    by_arm: dict[str, list[Outcome]] = {}
    for record in records:
        by_arm.setdefault(record.spec.arm, []).append(record.outcome())
    used = {outcome.trial_id for outcome in by_arm.get(UNSTEERED, [])}
    boosted = context.replayed.outcomes(used)
    unsteered = by_arm.get(UNSTEERED, [])
    journal = context.run.journal
    arms = {
        guard.name: {
            **arm(
                by_arm.get(guard.name, []),
                by_arm.get(f"clean {guard.name}", []),
                unsteered,
                boosted,
                context.seed,
            ),
            **(journal.get("operator", guard.name) or {"geometry": None}),
        }
        for guard in guards(config)
    }
    return {
        "experiment_config": context.experiment_config(),
        "parent": context.replayed.identity(),
        "differences": context.replayed.differences(context.settings),
        "defence_layers": list(layers_of(config, context.spec)),
        "unsteered": metrics.summary(unsteered, context.seed),
        "baseline": metrics.summary(boosted, context.seed),
        "arms": arms,
        "failed": (journal.get("operator", "failed") or {"failed": {}})["failed"],
        "results_by_feature": by_feature(context, records),
    }


def arm(
    defended: Sequence[Outcome],
    clean: Sequence[Outcome],
    unsteered: Sequence[Outcome],
    boosted: Sequence[Outcome],
    seed: int,
) -> dict[str, Any]:
    """What a guard gives back of the first score, and what it costs where nothing pushes.

    ``restored``: (defended - boosted) / (unsteered - boosted) of the mean first scores; None where
    the boost took nothing. ``cost``: unsteered minus clean, in points.
    """
    means = [_first(part) for part in (defended, clean, unsteered, boosted)]
    restored = cost = None
    if None not in means:
        with_guard, without_boost, whole, pushed = (float(m) for m in means if m is not None)
        restored = (with_guard - pushed) / (whole - pushed) if whole > pushed else None
        cost = whole - without_boost
    return {
        "defended": metrics.summary(defended, seed),
        "clean": metrics.summary(clean, seed),
        "restored": restored,
        "cost": cost,
    }


def _first(outcomes: Sequence[Outcome]) -> float | None:
    scores = metrics.first_scores(outcomes)
    return fmean(scores) if scores else None


def show(data: Mapping[str, Any]) -> str:
    """The table printed at the end."""
    return tables.defence(data)


EXPERIMENT = Experiment(
    NAME,
    DefenceConfig,
    stages,
    specs,
    outcome_results,
    show,
    "experiment_12_steering_operators defend",
    layers=layers_of,
)
