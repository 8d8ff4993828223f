"""The steps of experiment 10."""

from __future__ import annotations

from collections.abc import Sequence

from esr.errors import UserError, run_async
from esr.models import REGISTRY
from esr.pipeline.dry_run import show_plan
from esr.pipeline.experiment import main
from esr.pipeline.opening import open_context
from esr.pipeline.settings import resolve
from esr.pipeline.trials import finished
from esr.runs import commands
from experiment_10_random_latent_control.config import Config
from experiment_10_random_latent_control.run import EXPERIMENT, outcome_results, show, specs


def run_random(argv: Sequence[str]) -> int:
    """Choose the sets, replay the trials with each clamped, and analyze."""
    return main(EXPERIMENT, argv)


async def _analyze(config: Config) -> None:
    async with open_context(EXPERIMENT.name, config, resolve(config)) as context:
        if context.run.journal.get("sets", config.matching) is None:
            raise UserError(
                f"no random sets in {context.run.path}",
                "a run of the step run-random with the same options",
                f"python -m {EXPERIMENT.name} run-random {config.model}",
            )
        trials = await specs(config, context)
        records = finished(trials, context)
        results = outcome_results(config, context, records)
        context.run.write_results(results, partial=len(records) < len(trials))
        print(show(results))
        if len(records) < len(trials):
            raise UserError(
                f"{len(trials) - len(records)} of {len(trials)} trials are still to be run",
                "a finished run",
                f"python -m {EXPERIMENT.name} run-random {config.model}",
            )
        print(f"run folder: {context.run.path}")


def _run_analyze(config: Config) -> None:
    if config.dry_run:
        show_plan(f"{EXPERIMENT.name} analyze", config, resolve(config), [])
    else:
        run_async(_analyze(config))


def start(program: str, argv: Sequence[str] | None = None) -> int:
    """The command line; the first argument names the step."""
    analyze = commands.step(
        Config,
        _run_analyze,
        f"python -m {EXPERIMENT.name} analyze",
        "Compute the results once more from what is on disk, beside the newest ablation.",
    )
    steps = {"run-random": run_random, "analyze": analyze}
    return commands.choose(program, steps, "run-random", argv, REGISTRY)
