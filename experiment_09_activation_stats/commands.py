"""The steps of experiment 9: all in one run folder, each resumable and runnable alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from esr.errors import run_async
from esr.models import REGISTRY, ModelSpec
from esr.pipeline import preflight
from esr.pipeline.context import RunContext
from esr.pipeline.dry_run import show_plan
from esr.pipeline.opening import open_context
from esr.pipeline.settings import check_latents, resolve
from esr.pipeline.stages import Stage
from esr.runs import commands
from esr.runs.commands import Step
from experiment_09_activation_stats import collect, report
from experiment_09_activation_stats.collect import NAME
from experiment_09_activation_stats.config import Config

STEPS: Mapping[str, Callable[[Config, RunContext], Awaitable[str]]] = {
    "find-backtracking": collect.find_backtracking,
    "extract-episodes": collect.extract_episodes,
    "annotate-boundaries": collect.annotate_boundaries,
    "collect-activations": collect.collect_activations,
    "collect-baseline": collect.collect_baseline,
    "analyze": report.analyze,
    "generate-output": report.generate_output,
}


PAPER_EPISODES, EPISODES = 146, "146 in the paper; all there are, if there are fewer"
"""Self-correcting episodes of the paper (A.4): how many there will be is known from the parent."""


def stages(config: Config, spec: ModelSpec, steps: Sequence[str] = tuple(STEPS)) -> list[Stage]:
    """Reads, as far as they can be told before the run of experiment 1 is looked at."""
    n = config.n_episodes or PAPER_EPISODES
    every = {
        "find-backtracking": Stage("labels", 0, 0, labels=not config.backtracking_latents),
        "annotate-boundaries": Stage("boundaries", 0, 0, asked=n * config.asks(spec)),
        "collect-activations": Stage("episodes", 0, 0, reads=n, note=EPISODES),
        "collect-baseline": Stage("baseline", 0, 0, reads=config.n_baseline),
    }
    return [every[step] for step in steps if step in every]


async def run_steps(names: Sequence[str], config: Config, context: RunContext) -> None:
    """Run steps one after the other and say what each came to."""
    for name in names:
        print(f"{name}: {await STEPS[name](config, context)}")
    print(f"run folder: {context.run.path}")


def _step(name: str, steps: Sequence[str], about: str) -> Step:
    async def conduct(config: Config, spec: ModelSpec) -> None:
        async with open_context(NAME, config, spec) as context:
            await run_steps(steps, config, context)

    def run(config: Config) -> None:
        spec = resolve(config)
        check_latents("--backtracking-latents", config.backtracking_latents, spec)
        if config.dry_run:
            show_plan(NAME, config, spec, stages(config, spec, steps))
        else:
            preflight.before(NAME, [config], spec, stages(config, spec, steps))
            run_async(conduct(config, spec))

    return commands.step(Config, run, f"python -m {NAME} {name}", about)


def start(program: str, argv: Sequence[str] | None = None) -> int:
    """The command line; the first argument names the step."""
    steps = {"all": _step("all", list(STEPS), "All steps below, one after the other.")}
    steps |= {name: _step(name, [name], run.__doc__ or "") for name, run in STEPS.items()}
    return commands.choose(program, steps, "all", argv, REGISTRY)
