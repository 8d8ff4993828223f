"""Experiment 11: which trials, and what is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esr import judge
from esr.analysis import metrics
from esr.analysis.outcomes import Outcome
from esr.errors import UserError
from esr.models import ModelSpec
from esr.pipeline import arms, replay
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.replay import OPTION, ReplayedRun
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, planned_trials
from esr.pipeline.trials import check_prefixes
from experiment_11_resistance_controls import findings, tables
from experiment_11_resistance_controls.config import CONTROLS, Config
from experiment_11_resistance_controls.controls import ALL
from experiment_11_resistance_controls.episodes import Beginnings, Episode, episodes


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """One stage per control, with what its verdicts cost alone.

    Raises:
        UserError: a control that is named has nothing to work on, or none has.
    """
    parent = replay.find_or_none(config, spec)
    trials = planned_trials(config, spec)
    plan = []
    for name in chosen(config, parent):
        control = ALL[name]
        worked = trials if parent is None else _worked(config, parent, control.needs)
        responses = round(worked * control.per_trial(config))
        verdicts = round(worked * control.verdicts)
        rounds = spec.calibration.rounds * spec.calibration.prompts_per_round
        latents = min(config.n_latents or spec.n_latents, spec.n_latents)
        responses += control.calibrates * latents * rounds
        cost = _cost(config, spec, responses + verdicts)
        note = "; ".join(part for part in (CONTROLS[name], control.note, f"judge {cost}") if part)
        plan.append(Stage(name, responses, spec.max_tokens, asked=verdicts, note=note))
    return plan


def _worked(config: Config, parent: ReplayedRun, needs: str) -> int:
    """Trials of the parent that a control works on, at most."""
    outcomes = _outcomes(config, parent)
    return sum(o.multi for o in outcomes) if needs == "restarts" else len(outcomes)


def _outcomes(config: Config, parent: ReplayedRun) -> list[Outcome]:
    answered = parent.answered(config.n_latents, config.n_trials)
    return parent.outcomes({trial.name for trial in answered})


def _cost(config: Config, spec: ModelSpec, verdicts: int) -> str:
    name = config.judge or spec.judge
    characters = 4.0 * spec.max_tokens
    return str(
        judge.estimate(
            name,
            verdicts,
            response_characters=characters,
            rubric=config.rubric,
            batch=config.judge_batch,
        )
    )


def chosen(config: Config, parent: ReplayedRun | None) -> list[str]:
    """Controls that are run: those named, or all that have something to work on.

    Raises:
        UserError: a control that is named has nothing to work on.
    """
    missing = lacking(config, parent) if parent else {}
    named = [name for name in config.controls if name in missing]
    if named:
        free = [name for name in CONTROLS if name not in missing]
        raise UserError(
            f"--controls {named[0]}: {missing[named[0]]}",
            f"a parent with restarts; on this one {', '.join(free)}",
            f"name another parent with {OPTION}, or --controls {free[0]}",
        )
    return [name for name in config.controls or CONTROLS if name not in missing]


def lacking(config: Config, parent: ReplayedRun) -> dict[str, str]:
    """Controls that have nothing to work on in a parent, and why."""
    if any(outcome.multi for outcome in _outcomes(config, parent)):
        return {}
    reason = f"no response of {parent.path} starts over"
    return {name: reason for name, control in ALL.items() if control.needs != "trials"}


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """The trials of all controls that are run."""
    texts = _texts(config, context)
    made: list[TrialSpec] = []
    for name in chosen(config, context.replayed):
        made += await ALL[name].specs(config, context, texts)
    check_prefixes(made, context)
    return made


def _texts(config: Config, context: RunContext) -> Beginnings:
    replayed = arms.replayed_trials(config, context, "steered")
    return Beginnings(_graded(episodes(context.replayed, replayed)), context.chat, context.seed)


def _graded(found: Sequence[Episode]) -> list[Episode]:
    return [episode for episode in found if episode.graded]


def outcome_results(
    config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``: each arm beside the same trials of the parent, and what controls say."""
    parent = context.replayed
    specs = arms.replayed_trials(config, context, "steered")
    names = {episode.name for episode in _graded(episodes(parent, specs))}
    before = parent.outcomes(names)
    return {
        "experiment_config": context.experiment_config(),
        "baseline": {
            **parent.identity(),
            "differences": parent.differences(context.settings),
            "summary": metrics.summary(before, context.seed),
        },
        "controls": chosen(config, parent),
        "left_out": lacking(config, parent),
        "arms": findings.by_arm(records, before, context.seed),
        "findings": findings.of(config, context, records, before),
        "results_by_feature": arms.by_feature(context, records),
    }


def show(data: Mapping[str, Any]) -> str:
    """The tables printed at the end."""
    return tables.show(data)


EXPERIMENT = Experiment(
    "experiment_11_resistance_controls", Config, stages, specs, outcome_results, show
)
