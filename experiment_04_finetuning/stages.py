"""The three commands: generate, train, evaluate; all of them where none is named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from esr.errors import run_async, run_command
from esr.models import REGISTRY
from esr.pipeline import preflight
from esr.pipeline.dry_run import show_plan
from esr.pipeline.preflight import Need
from esr.pipeline.settings import resolve
from esr.runs.commands import Step, choose
from experiment_04_finetuning import dry_run
from experiment_04_finetuning.config import Config, base_config, read, sweeps_of
from experiment_04_finetuning.evaluate import NAME, evaluate, stages, sweep_table
from experiment_04_finetuning.needs import MIXES, generate_needs, train_needs, trained
from experiment_04_finetuning.sweep import Sweep, train_mix
from experiment_04_finetuning.sweep import generate as write_examples

PROGRAM = f"python -m {NAME}"


def generate(config: Config, sweeps: list[Sweep]) -> list[Need]:
    """Write the examples and build the mixes."""
    sweep = sweeps[0]
    needed = generate_needs(sweep)
    if config.dry_run:
        dry_run.show_generate(sweep)
        return needed
    if sweep.data_run(new=config.new).status != "complete":
        preflight.refuse(needed)
    statistics = run_async(write_examples(sweep, new=config.new, max_spend=config.max_spend))
    print(f"{'%':>4}{'train':>8}{'validation':>12}{'tokens':>10}{'masked':>9}{'longest':>9}")
    for percent, mix in statistics["mixes"].items():
        print(
            f"{percent:>4}{mix['train']:>8}{mix['validation']:>12}{mix['tokens']:>10,}"
            f"{mix['masked_share']:>9.1%}{mix['length']['max']:>9}"
        )
    print(f"mixes and statistics.json: {sweep.data_run().path}")
    return []


def train(config: Config, sweeps: list[Sweep]) -> list[Need]:
    """Fine-tune on each mix and merge, once per training seed."""
    if config.dry_run:
        dry_run.show_train(sweeps)
        return train_needs(sweeps)
    if not trained(sweeps, new=config.new):
        preflight.refuse(train_needs(sweeps, online=True))
    for sweep in sweeps:
        for percent in config.data.percents:
            folder = train_mix(sweep, percent, new=config.new)
            print(f"{percent} % self-correction, training seed {sweep.training_seed}: {folder}")
    return []


def evaluate_all(config: Config, sweeps: list[Sweep]) -> list[Need]:
    """Measure the base model and the fine-tuned ones."""
    if config.dry_run:
        common, spec = base_config(config), sweeps[0].spec
        n_models = 1 + len(sweeps) * len(config.data.percents)
        show_plan(NAME, common, spec, stages(common, spec, n_models))
        return []
    evaluated = run_async(evaluate(config, sweeps))
    print(sweep_table(evaluated))
    return []


STAGES: dict[str, Callable[[Config, list[Sweep]], list[Need]]] = {
    "generate": generate,
    "train": train,
    "evaluate": evaluate_all,
}


def _step(name: str, stages: Sequence[str], about: str) -> Step:
    def run_stages(argv: Sequence[str]) -> int:
        def command() -> None:
            config = read(f"{PROGRAM} {name}", argv)
            sweeps = sweeps_of(config, resolve(config))
            wanted: list[Need] = []
            for stage in stages:
                listed = STAGES[stage](config, sweeps)
                if stage != stages[0]:  # generate makes them first
                    listed = [need for need in listed if need.what != MIXES]
                if listed:
                    print("\n  needed:", *preflight.lines(listed), sep="\n    ")
                wanted += listed
            preflight.refuse(wanted)

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
