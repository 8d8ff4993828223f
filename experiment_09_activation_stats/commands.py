"""The steps of experiment 9: all in one run folder, each resumable and runnable alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from esr.errors import run_async
from esr.models import REGISTRY, ModelSpec
from esr.pipeline.context import RunContext
from esr.pipeline.dry_run import Stage, show_plan
from esr.pipeline.opening import open_context
from esr.pipeline.settings import check_latents, resolve
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


def stages(config: Config) -> list[Stage]:
    """Reads, as far as they can be told before the run of experiment 1 is looked at."""
    return [
        Stage("episodes", 0, 0, judged=False, reads=config.n_episodes or 146),
        Stage(
            "baseline",
            0,
            0,
            judged=False,
            reads=config.n_baseline,
            note="146 episodes in the paper; a judge's model is asked once for each.",
        ),
    ]


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
            show_plan(NAME, config, spec, stages(config))
        else:
            run_async(conduct(config, spec))

    return commands.step(Config, run, f"python -m {NAME} {name}", about)


def start(program: str, argv: Sequence[str] | None = None) -> int:
    """The command line; the first argument names the step."""
    steps = {"all": _step("all", list(STEPS), "All steps below, one after the other.")}
    steps |= {name: _step(name, [name], run.__doc__ or "") for name, run in STEPS.items()}
    return commands.choose(program, steps, "all", argv, REGISTRY)
