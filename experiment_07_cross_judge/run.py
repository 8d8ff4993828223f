"""Experiment 7: recorded responses go before other judges; nothing is generated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from esr import judge, models
from esr.errors import StopError, UserError, run_async, run_command
from esr.judge.base import Attempt, CallSettings, Judge, Status, Verdict
from esr.models import ModelSpec, prompts
from esr.pipeline import preflight, regrading, replay
from esr.pipeline.context import RunContext
from esr.pipeline.opening import open_context
from esr.pipeline.schema import TrialSpec
from esr.pipeline.settings import check_keyed, resolve
from esr.runs.commands import parse
from esr.runs.results import ScoreEntry
from experiment_07_cross_judge import blind
from experiment_07_cross_judge.config import Config
from experiment_07_cross_judge.report import outcome_results, show
from experiment_07_cross_judge.sample import (
    ORIGINAL,
    Recorded,
    Sample,
    allocate,
    draw,
    recorded_trials,
    strata,
)

NAME = "experiment_07_cross_judge"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""

    def command() -> None:
        config = parse(Config, f"python -m {NAME}", argv)
        for part in per_model(config):
            spec = resolve(part)
            if config.dry_run:
                show_plan(part, spec)
            else:
                preflight.before(NAME, [part], spec, [], asked_judges(part, spec))
                run_async(run(part, spec))

    return run_command(command)


def per_model(config: Config) -> list[Config]:
    """One config per model, with its share of the sample and its judges.

    Raises:
        UserError: no run of experiment 1 to re-grade, or no judge to do it.
    """
    if config.from_results and not config.model:
        raise UserError("--from-results without a model", "a model key", "name the model first")
    keys = [config.model] if config.model else list(models.REGISTRY)
    replayed = {}
    for key in keys:
        part = replace(config, model=key)
        run = replay.find_or_none(part, resolve(part))
        if run is not None:
            replayed[key] = run
    if not replayed and not (config.dry_run and config.model):
        raise UserError(
            f"no complete run of experiment 1 in {config.output}"
            + (f" for {config.model}" if config.model else ""),
            "a run of any model",
            f"python -m {replay.EXPERIMENT_1} {config.model or 'tiny'}",
        )
    populations = {key: strata(run.outcomes()) for key, run in replayed.items()}
    populations = populations or {config.model: {"multi": 0, "single": 0}}
    parts = []
    for key, size in sizes_of(populations, config).items():
        original = str(replayed[key].results.experiment_config.judge_id) if replayed else ""
        names = judges_of(config, models.get(key), original)
        if replayed:
            blind.arms_of(config, replayed[key])
        part = replace(config, model=key, n_samples=size, judges=",".join(names), judge=names[0])
        if replayed:
            # --judge said whose run it is; the part's judge is the first one asked.
            part = replace(part, from_results=str(replayed[key].path))
        parts.append(part)
    return parts


def sizes_of(populations: Mapping[str, dict[str, int]], config: Config) -> dict[str, int]:
    """Sample size of each model; organisms take nothing from the large models' share."""
    sizes: dict[str, int] = {}
    for organism in (False, True):
        kind = {k: p for k, p in populations.items() if models.get(k).organism is organism}
        sizes |= allocate(kind, config.n_samples, config.min_per_model)
    return {key: sizes[key] for key in populations}


def asked_judges(config: Config, spec: ModelSpec) -> list[str]:
    """Names of all judges that are asked, the run's own included where it is asked again."""
    names = config.judges.split(",")
    parent = replay.find_or_none(config, spec) if config.blind else None
    return [*names, blind.own_judge(config, parent)[0]] if parent else names


def judges_of(config: Config, spec: ModelSpec, original: str) -> list[str]:
    """Judges that re-grade a model's trials; a dry run asks for no key.

    Raises:
        UserError: an unknown judge, or none.
    """
    if config.judges:
        named = [name.strip() for name in config.judges.split(",") if name.strip()]
        same = [name for name in named if judge.resolve(name) == original]
        for name in named:
            check_keyed("--judges", name, prompts.load(config.prompts, spec.prompt_set))
        if same or not named:
            raise UserError(
                f"--judges {config.judges}: {'graded the run itself' if same else 'no name'}",
                "other judges than the run's own",
                "--judges " + ",".join(n for n in judge.names() if judge.resolve(n) != original),
            )
        return list(dict.fromkeys(named))
    offline = ("lexical", "overlap", "keyed")
    known_answers = prompts.load(config.prompts, spec.prompt_set).keyed
    names = [
        name
        for name in judge.names()
        if (known_answers or not judge.needs_keys(name))
        and (
            spec.organism or known_answers
            if name in offline
            else config.dry_run or judge.has_key(name)
        )
        and judge.resolve(name) != original
    ]
    if not names:
        raise UserError(
            f"no judge to re-grade {spec.key} with: no key is set",
            ", ".join(judge.names()),
            "add keys to .env (see .env.example), or --judges NAMES",
        )
    return names


def show_plan(config: Config, spec: ModelSpec) -> None:
    """Print what a command would ask of each judge."""
    print(f"{NAME} on {spec.title}: at most {config.n_samples:,} trials of experiment 1")
    for name in config.judges.split(","):
        estimate = judge.estimate(
            name,
            config.n_samples,
            response_characters=4.0 * spec.max_tokens,
            rubric=config.rubric,
            batch=config.judge_batch,
        )
        print(f"  {name} ({judge.resolve(name)}): {estimate}")
        if note := judge.notice(name):
            print(f"    {note}")
    for arm in filter(None, config.blind.split(",")):
        print(f"  {arm}: as many verdicts of the run's own judge")
    print("  no GPU, no generation")
    needed = preflight.needs(config, spec, [], judges=asked_judges(config, spec))
    for line in preflight.lines(needed):
        print(f"  {line}")
    preflight.refuse(needed)


async def run(config: Config, spec: ModelSpec) -> None:
    """Re-grade one model's sample with every judge, in one run folder."""
    names = config.judges.split(",")
    async with open_context(NAME, config, spec) as context:
        sample = draw(recorded_trials(context.replayed, context), config.n_samples, context.seed)
        arms = {arm: specs(sample, arm, context) for arm in (ORIGINAL, *names)}
        blinded = blind.arms_of(config, context.replayed)
        arms |= {arm: specs(sample, arm, context) for arm in blinded}
        infos: dict[str, Any] = {}
        try:
            for name in names:
                await regrade(config, context, name, arms[name], infos)
            for arm in blinded:
                trials = [trial.spec for trial in sample.trials]
                told = blind.judge_of(arm, config, context, trials)
                infos[arm] = asdict(told.info)
                try:
                    await regrading.regrade(arms[arm], told, context, arm)
                finally:
                    await told.close()
        except (asyncio.CancelledError, KeyboardInterrupt, StopError):
            context.run.write_results(outcome_results(context, sample, arms, infos), partial=True)
            raise
        data = outcome_results(context, sample, arms, infos)
        context.run.write_results(data)
        print(show(data))
        print(f"run folder: {context.run.path}")


async def regrade(
    config: Config, context: RunContext, name: str, trials: list[TrialSpec], infos: dict[str, Any]
) -> None:
    """Put trials before one judge."""
    if note := judge.notice(name):
        print(note)
    own = context.judge
    other: Judge = own
    if name != config.judge:
        calls = CallSettings(config.judge_concurrency)
        other = judge.create(name, calls=calls, rubric=config.rubric, ledger=context.ledger)
        if config.judge_batch:
            other = judge.batched(other, context.run.path / f"batches-{name}.jsonl")
    infos[name] = asdict(other.info)
    try:
        await regrading.regrade(trials, other, context, name)
    finally:
        if other is not own:
            await other.close()


def specs(sample: Sample, arm: str, context: RunContext) -> list[TrialSpec]:
    """The sample as trials of one arm; their responses are already in the journal."""
    copies = regrading.answered(arm, [(t.spec, t.response) for t in sample.trials], context)
    journal = context.run.journal
    for spec, trial in zip(copies, sample.trials, strict=True):
        if arm == ORIGINAL and journal.get("verdict", spec.key) is None:
            journal.put("verdict", spec.key, _original(trial).to_json())
    return copies


def _original(trial: Recorded) -> Verdict:
    """The recorded verdict. It was paid for by experiment 1."""
    score = trial.score or ScoreEntry()
    attempts = tuple(
        Attempt(a.attempt_text, float(a.score or 0), tuple(a.windows)) for a in score.attempts or []
    )
    return Verdict(Status.GRADED, attempts, score.raw_response or "")
