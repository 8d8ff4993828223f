"""Blind arms: the run's own judge on the same responses, told less (``--blind``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from esr import judge, models
from esr.errors import UserError
from esr.judge.base import CallSettings
from esr.judge.blind import (
    BlindArm,
    Blinding,
    BlindJudge,
    bare_prompts,
    hidden_label,
    shuffled_labels,
)
from esr.models import prompts
from esr.pipeline.context import RunContext
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import TrialSpec
from esr.runs.results import iter_trials
from experiment_07_cross_judge.config import Config

ARMS: tuple[BlindArm, ...] = get_args(BlindArm)


def arms_of(config: Config, parent: ReplayedRun) -> list[str]:
    """The blind arms asked for.

    Raises:
        UserError: an unknown arm, one that would change nothing, or a judge that cannot be asked
            again as it was.
    """
    if not config.blind:
        return []
    own_judge(config, parent)
    possible = [arm for arm in ARMS if arm != "bare-prompt" or questions(config, parent)]
    if config.blind == "all":
        return [str(arm) for arm in possible]
    named = list(dict.fromkeys(name.strip() for name in config.blind.split(",")))
    for name in named:
        if name not in possible:
            bare = name == "bare-prompt"
            raise UserError(
                f"--blind {name}" + (": no trial of the run has a meta-prompt" if bare else ""),
                f"all, {', '.join(possible)}",
                "--from-results with a run of experiment 5" if bare else "--blind all",
            )
    return named


def own_judge(config: Config, parent: ReplayedRun) -> tuple[str, str]:
    """Name and rubric by which the run's own judge can be asked again as it was.

    Raises:
        UserError: there is no such judge here, or its rubric was another.
    """
    recorded = parent.results.experiment_config
    options = parent.results.raw.get("experiment_config", {})
    name = str(options.get("judge") or models.get(config.model).judge)
    if judge.resolve(name) != recorded.judge_name:
        raise UserError(
            f"--blind: the run was graded by {recorded.judge_name or 'a judge not recorded'}",
            f"a run graded by {judge.resolve(name)}, or by a judge that it names",
            "leave --blind out",
        )
    for rubric in (str(options.get("rubric") or "own"), "own-1"):
        if judge.info(name, rubric).rubric_hash == recorded.rubric_hash:
            return name, rubric
    raise UserError(
        f"--blind: judge {name} graded the run by another rubric than there is here",
        "a run graded by a rubric of this version",
        "leave --blind out",
    )


def questions(config: Config, parent: ReplayedRun) -> dict[str, str]:
    """The question alone by the user turn, of trials whose turn is more than the question."""
    spec = models.get(config.model)
    texts = {p.id: p.text for p in prompts.load(config.prompts, spec.prompt_set).prompts}
    turns = ((str(t.prompt), texts.get(t.prompt_id or "")) for t in iter_trials(parent.results))
    return {turn: text for turn, text in turns if text and text != turn}


def judge_of(
    arm: str, config: Config, context: RunContext, trials: Sequence[TrialSpec]
) -> BlindJudge:
    """The run's own judge, blind.

    Args:
        arm: of :func:`arms_of`.
        config: the options.
        context: of this run.
        trials: that will be judged.
    """
    name, rubric = own_judge(config, context.replayed)
    calls = CallSettings(config.judge_concurrency)
    told = judge.create(name, calls=calls, rubric=rubric, ledger=context.ledger)
    if config.judge_batch:
        told = judge.batched(told, context.run.path / f"batches-{arm}.jsonl")
    return BlindJudge(told, _blinding(arm, config, context, trials))


def _blinding(
    arm: str, config: Config, context: RunContext, trials: Sequence[TrialSpec]
) -> Blinding:
    if arm == "label-hidden":
        return hidden_label()
    if arm == "label-shuffled":
        return shuffled_labels((trial.latent_label for trial in trials), context.seed)
    return bare_prompts(questions(config, context.replayed))
