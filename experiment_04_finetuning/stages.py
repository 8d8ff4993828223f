"""The three commands: generate, train, evaluate; all of them where none is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from esr.errors import run_async, run_command
from esr.models import REGISTRY
from esr.pipeline.dry_run import show_plan
from esr.pipeline.settings import resolve
from esr.runs.commands import Step, choose
from experiment_04_finetuning import dry_run
from experiment_04_finetuning.config import Config, base_config, read, sweep_of
from experiment_04_finetuning.evaluate import NAME, evaluate, stages, sweep_table
from experiment_04_finetuning.sweep import Sweep, train_mix
from experiment_04_finetuning.sweep import generate as write_examples

PROGRAM = f"python -m {NAME}"


def generate(config: Config, sweep: Sweep) -> None:
    """Write the examples and build the mixes."""
    if config.dry_run:
        dry_run.show_generate(sweep)
        return
    statistics = run_async(write_examples(sweep, new=config.new, max_spend=config.max_spend))
    print(f"{'%':>4}{'train':>8}{'validation':>12}{'tokens':>10}{'masked':>9}{'longest':>9}")
    for percent, mix in statistics["mixes"].items():
        print(
            f"{percent:>4}{mix['train']:>8}{mix['validation']:>12}{mix['tokens']:>10,}"
            f"{mix['masked_share']:>9.1%}{mix['length']['max']:>9}"
        )
    print(f"mixes and statistics.json: {sweep.data_run().path}")


def train(config: Config, sweep: Sweep) -> None:
    """Fine-tune on each mix and merge."""
    if config.dry_run:
        dry_run.show_train(sweep)
        return
    for percent in config.data.percents:
        print(f"{percent} % self-correction: {train_mix(sweep, percent, new=config.new)}")


def evaluate_all(config: Config, sweep: Sweep) -> None:
    """Measure the base model and the fine-tuned ones."""
    if config.dry_run:
        common = base_config(config)
        show_plan(
            NAME, common, sweep.spec, stages(common, sweep.spec, 1 + len(config.data.percents))
        )
        return
    evaluated = run_async(evaluate(config, sweep))
    print(sweep_table(evaluated))


STAGES: dict[str, Callable[[Config, Sweep], None]] = {
    "generate": generate,
    "train": train,
    "evaluate": evaluate_all,
}


def _step(name: str, stages: Sequence[str], about: str) -> Step:
    def run_stages(argv: Sequence[str]) -> int:
        def command() -> None:
            config = read(f"{PROGRAM} {name}", argv)
            sweep = sweep_of(config, resolve(config))
            for stage in stages:
                STAGES[stage](config, sweep)

        return run_command(command)

    run_stages.__doc__ = about
    return run_stages


def main(argv: Sequence[str] | None = None, stage: str = "") -> int:
    """Run the stage that is given or named first, or all three; returns the exit status."""
    steps = {"all": _step("all", list(STAGES), "All three, one after the other.")}
    steps |= {name: _step(name, [name], run.__doc__ or "") for name, run in STAGES.items()}
    if stage:
        return steps[stage](sys.argv[1:] if argv is None else argv)
    return choose(PROGRAM, steps, "all", argv, REGISTRY)
