"""``python -m esr.models list``, ``check FILE`` and ``suggest-prior MODEL_OR_FILE``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simple_parsing import field

from esr import models
from esr.models import from_toml
from esr.models.spec import ModelSpec
from esr.runs import commands

PROGRAM = "python -m esr.models"


@dataclass(frozen=True)
class ListOptions:
    """All registered models."""


@dataclass(frozen=True)
class CheckOptions:
    """Read a model file and say what it means."""

    file: str = field(positional=True, metavar="FILE.toml")
    """A model of your own (docs/own-model.md)."""


@dataclass(frozen=True)
class PriorOptions:
    """Load a model and its SAE, and suggest a prior of the boost."""

    model: str = field(positional=True, metavar="MODEL or FILE.toml")
    """Model key, or a file, which needs no prior yet."""


def describe(spec: ModelSpec) -> str:
    """One line."""
    return (
        f"{spec.key:10} {spec.hf_id}, SAE {spec.sae.describe()}, {spec.d_sae:,} latents of width "
        f"{spec.d_model:,}, steered at layer {spec.steering_layer}, read at {spec.feature_layer}"
    )


def list_models(options: ListOptions) -> None:  # noqa: ARG001
    """Print the registry."""
    for spec in models.REGISTRY.values():
        print(describe(spec))


def check_file(options: CheckOptions) -> None:
    """Print what a model file says."""
    print(describe(from_toml.load(Path(options.file))))


def suggest_prior(options: PriorOptions) -> None:
    """Load a model in Hugging Face transformers, measure, and print a calibration table."""
    from transformers.utils.logging import disable_progress_bar

    from esr.models import chat, prompts
    from esr.models.prior import N_PROMPTS, measure
    from esr.models.weights import check_fit, gpu_memory
    from esr.steering import sae

    if options.model.endswith(".toml"):
        spec = from_toml.load(Path(options.model), prior_needed=False)
    else:
        spec = models.get(options.model)
    disable_progress_bar()
    check_fit(spec, gpu_memory())
    chat_format = chat.load(spec)
    questions = prompts.load("", spec.prompt_set).prompts[:N_PROMPTS]
    texts = [chat_format.prompt_ids(question.text) for question in questions]
    suggestion = measure(spec, sae.load(spec.sae), texts)
    print(
        f"# residual stream at layer {spec.steering_layer}: median length "
        f"{suggestion.residual_norm:.4g} over {suggestion.n_tokens} tokens of {len(questions)} "
        f"prompts\n# decoder rows: median length {suggestion.decoder_norm:.4g}"
    )
    print(suggestion.toml())


STEPS = {
    "list": commands.step(ListOptions, list_models, f"{PROGRAM} list"),
    "check": commands.step(CheckOptions, check_file, f"{PROGRAM} check"),
    "suggest-prior": commands.step(PriorOptions, suggest_prior, f"{PROGRAM} suggest-prior"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commands.choose(PROGRAM, STEPS, argv=argv)
