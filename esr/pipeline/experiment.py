"""An experiment is a list of trial specs and what it computes from their records.

This module resolves a config, shows the plan, opens the run folder, runs the specs and writes
``results.json``. An experiment package adds its specs and its results, nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic

from esr.errors import (
    EngineError,
    JudgeError,
    StopError,
    StorageError,
    run_async,
    run_command,
)
from esr.judge.ledger import Ledger
from esr.models import ModelSpec
from esr.models.identity import model_identity
from esr.pipeline import preflight
from esr.pipeline.cli import ConfigT
from esr.pipeline.context import RunContext
from esr.pipeline.dry_run import show_plan
from esr.pipeline.engines import one_engine
from esr.pipeline.opening import complete_results, open_context
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.settings import resolve
from esr.pipeline.stages import Stage
from esr.pipeline.trials import finished, run_trials
from esr.runs.commands import parse
from esr.runs.plain import json_text


def _no_layers(config: ConfigT, spec: ModelSpec) -> Sequence[int]:  # noqa: ARG001
    return ()


def _one_run(config: ConfigT, spec: ModelSpec) -> list[ConfigT]:  # noqa: ARG001
    return [config]


@dataclass(frozen=True)
class Experiment(Generic[ConfigT]):
    """One experiment.

    Attributes:
        name: of its package, and of its folder among the results.
        config: its options.
        stages: what it will ask of the engine and the judge, for ``--dry-run``.
        specs: the trials; may calibrate or read first.
        results: what goes into ``results.json``; also called on the records there are when a
            run is interrupted.
        report: lines for the terminal, from the results.
        command: what is typed after ``python -m``, for help; the name where left out.
        runs: the configs of the runs that one command makes, each in a folder of its own, on one
            engine; the config itself where left out.
        layers: that interventions name beside the model's steering and feature layer; none where
            left out. The engine is told of them when it starts.
    """

    name: str
    config: type[ConfigT]
    stages: Callable[[ConfigT, ModelSpec], list[Stage]]
    specs: Callable[[ConfigT, RunContext], Awaitable[list[TrialSpec]]]
    results: Callable[[ConfigT, RunContext, list[TrialRecord]], dict[str, Any]]
    report: Callable[[Mapping[str, Any]], str]
    command: str = ""
    runs: Callable[[ConfigT, ModelSpec], list[ConfigT]] = field(default=_one_run)
    layers: Callable[[ConfigT, ModelSpec], Sequence[int]] = field(default=_no_layers)


def main(experiment: Experiment[ConfigT], argv: Sequence[str] | None = None) -> int:
    """The command line of an experiment; returns the exit status."""

    def command() -> None:
        typed = experiment.command or experiment.name
        config = parse(experiment.config, f"python -m {typed}", argv)
        spec = resolve(config)
        stages = experiment.stages(config, spec)
        if config.dry_run:
            show_plan(typed, config, spec, stages)
            return
        parts = experiment.runs(config, spec)
        preflight.before(experiment.name, parts, spec, stages)
        run_async(run(experiment, config, spec))

    return run_command(command)


async def run(experiment: Experiment[ConfigT], config: ConfigT, spec: ModelSpec) -> None:
    """Run an experiment in its folder, or show the results of a run that is complete."""
    ledger, model = Ledger(config.max_spend), model_identity(spec)
    async with one_engine(config, spec, experiment.layers(config, spec)) as start:
        for part in experiment.runs(config, spec):
            if complete := complete_results(experiment.name, part, spec, model):
                folder, shown = complete
                print(experiment.report(shown))
                print(f"run folder: {folder.path}")
                ledger.spent += folder.metadata.spend
                continue
            async with open_context(experiment.name, part, spec, start, model, ledger) as context:
                results = await conduct(experiment, part, context)
                print(experiment.report(results))
                print(f"run folder: {context.run.path}")


def _check_judge(context: RunContext, records: Sequence[TrialRecord]) -> None:
    """A run without a single verdict that can be read is not complete.

    Raises:
        JudgeError: every verdict failed.
    """
    verdicts = [record.verdict for record in records if record.verdict]
    if verdicts and not any(verdict.answered for verdict in verdicts):
        said = " ".join(verdicts[-1].raw.split())[:200]
        raise JudgeError(
            f"none of {len(verdicts)} verdicts of judge {context.judge.info.id} can be read; the "
            f"last: {verdicts[-1].status} ({verdicts[-1].reason}: {said!r}); next: another judge, "
            "or repeat the command"
        )


async def conduct(
    experiment: Experiment[ConfigT], config: ConfigT, context: RunContext
) -> dict[str, Any]:
    """Run the specs and write ``results.json``, a partial one where the run is interrupted."""
    specs: list[TrialSpec] = []
    try:
        stages = experiment.stages(config, context.spec)
        if any(stage.judged and stage.responses for stage in stages):
            await context.preflight()
        specs = await experiment.specs(config, context)
        records = await run_trials(specs, context)
        _check_judge(context, records)
    except (asyncio.CancelledError, KeyboardInterrupt, StopError, EngineError):
        partial = experiment.results(config, context, finished(specs, context))
        with suppress(StorageError):  # Why it stopped is what is to be said.
            context.run.write_results(partial, partial=True)
        raise
    results = experiment.results(config, context, records)
    context.run.write_results(results)
    # As a reader of the file gets them, so that a complete run is reported in the same way.
    again: dict[str, Any] = json.loads(json_text(results))
    return again
