"""Options of experiment 4."""

# Annotations are kept as types: as text, the option parser could not resolve those of this module.

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from simple_parsing import field

from esr.models import ModelSpec, prompts
from esr.pipeline.cli import CommonConfig, ReplayConfig
from esr.pipeline.settings import resolve
from esr.runs.bounds import bounded
from esr.runs.commands import parse
from experiment_04_finetuning import settings
from experiment_04_finetuning.settings import DataSettings, LoraSettings
from experiment_04_finetuning.sweep import Sweep


@dataclass(frozen=True, kw_only=True)
class Config(CommonConfig):
    """Fine-tuning that induces self-correction: generate, train, evaluate (section 3.5)."""

    model: str = field(default="tiny-base", positional=True, nargs="?", metavar="MODEL")
    """Base model; the paper's is 8b, tiny-base is the organism that never saw a restart."""

    train_prompts: str = field(default="", metavar="SET")
    """Prompts the examples are written for: as --prompts. Default: the prompts of the evaluation
    (3.5), and of held-out ones the set they were held out of."""

    training_seeds: tuple[int, ...] = bounded((0,), ge=0, identity=False, metavar="N")
    """Trainings of each mix: seeds of adapter, order and dropout; the data are --seed's. Ours."""

    n_latents: int | None = bounded(280, ge=1, metavar="N")
    """Latents per model: 280 x 5 trials are the paper's 1,400 (3.5); organism: its own number."""

    data: DataSettings = dataclasses.field(default_factory=DataSettings)
    """Examples and mixes."""

    lora: LoraSettings = dataclasses.field(default_factory=LoraSettings)
    """Hyperparameters."""


@dataclass(frozen=True, kw_only=True)
class BaseConfig(CommonConfig):
    """Options of the evaluation of the base model."""

    base: str = ""
    """Key of the base model."""

    percent: int = 0
    """Self-correction in the training data, in per cent."""

    training_seed: int = 0
    """Of the training: adapter, order and dropout."""

    train_prompts: str = ""
    """Prompt set of the training examples, and the first digits of its digest."""


@dataclass(frozen=True, kw_only=True)
class FineTunedConfig(BaseConfig, ReplayConfig):
    """Options of the evaluation of a fine-tuned model; its parent is the base model's."""

    training_run: str = ""
    """Id of the run that trained it."""

    hyperparameters: str = ""
    """What it was trained with, so that a figure can tell mixed settings apart."""

    def parent_model(self) -> str:
        """The base model, whose latents and prompts are used again."""
        return self.base


ORGANISM = Config(n_latents=None, data=settings.ORGANISM_DATA, lora=settings.ORGANISM_LORA)
"""Defaults for the organism."""


def read(program: str, argv: Sequence[str]) -> Config:
    """The options, with the model's own defaults where it has some.

    Raises:
        UserError: an option, a value or a model that is not known.
    """
    first = parse(Config, program, argv)
    if not resolve(first).organism:
        return first
    return parse(Config, program, argv, ORGANISM)


def sweep_of(config: Config, spec: ModelSpec) -> Sweep:
    """What generate and train work on, with the first of the training seeds."""
    evaluated = "" if config.prompts == prompts.HELD_OUT else config.prompts
    named = config.train_prompts or evaluated
    options = {"train-prompts": named, "seed": config.seed or ""}
    return Sweep(
        spec=spec,
        prompts=prompts.load(named, spec.prompt_set),
        data=config.data,
        lora=config.lora,
        seed=config.seed,
        output=Path(config.output),
        training_seed=config.training_seeds[0],
        typed="".join(f" --{name} {value}" for name, value in options.items() if value),
    )


def sweeps_of(config: Config, spec: ModelSpec) -> list[Sweep]:
    """The sweep once per training seed."""
    sweep = sweep_of(config, spec)
    return [replace(sweep, training_seed=seed) for seed in config.training_seeds]


def base_config(config: Config) -> BaseConfig:
    """The shared options alone: how a model was trained cannot change the base model's run."""
    return BaseConfig(**_common(config), base=config.model)


def fine_tuned_config(
    config: Config, sweep: Sweep, percent: int, base_run: Path
) -> FineTunedConfig:
    """The same options for a fine-tuned model, with the base model's run as parent."""
    shared = _common(config) | {"model": sweep.fine_tuned(percent).key}
    used = {**settings.identity(config.lora), "data seed": config.seed}
    return FineTunedConfig(
        **shared,
        base=config.model,
        percent=percent,
        training_seed=sweep.training_seed,
        train_prompts=f"{sweep.prompts.name} {sweep.prompts.digest[:8]}",
        from_results=str(base_run),
        training_run=sweep.training_run(percent).metadata.run_id,
        hyperparameters=", ".join(f"{name} {value}" for name, value in used.items()),
    )


def _common(config: Config) -> dict[str, Any]:
    return {f.name: getattr(config, f.name) for f in fields(CommonConfig)}
