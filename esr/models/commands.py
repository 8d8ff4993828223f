"""``python -m esr.models list``, ``check FILE`` and ``suggest-prior MODEL_OR_FILE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simple_parsing import field

from esr import models
from esr.errors import run_command
from esr.models import from_toml
from esr.models.check import CheckJudge, check
from esr.models.spec import ModelSpec
from esr.runs import commands

PROGRAM = "python -m esr.models"


@dataclass(frozen=True)
class ListOptions:
    """All registered models."""


@dataclass(frozen=True)
class CheckOptions:
    """Refuse a model file that cannot work; say what was checked, and what could not be."""

    file: str = field(positional=True, metavar="FILE.toml")
    """A model of your own (docs/own-model.md), or a model key."""


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


def check_file(options: CheckOptions, check_judge: CheckJudge) -> bool:
    """Print what a model file says, then each part; False where one could not be checked.

    Raises:
        UserError: the last fault; those before it are printed.
    """
    spec = models.get(options.file)
    print(describe(spec))
    report = check(spec, check_judge)
    for line in (*report.checked, *(f"NOT CHECKED {line}" for line in report.unchecked)):
        print(f"  {line}")
    for fault in report.faults[:-1]:
        print(f"error: {fault}", file=sys.stderr)
    for fault in report.faults[-1:]:
        raise fault
    left = len(report.unchecked)
    print(f"no fault, but {left} parts could not be checked" if left else "in order")
    return not left


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


def main(check_judge: CheckJudge, argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status.

    Args:
        check_judge: raises UserError for a name that is no judge; judges stand above models.
        argv: the arguments; those of the process where left out.
    """

    def run_check(argv: Sequence[str]) -> int:
        """Refuse a model that cannot work: 0 in order, 1 not all checked, 2 faults."""
        complete = []

        def command() -> None:
            options = commands.parse(CheckOptions, f"{PROGRAM} check", argv)
            complete.append(check_file(options, check_judge))

        return run_command(command) or int(not all(complete))

    steps = {
        "list": commands.step(ListOptions, list_models, f"{PROGRAM} list"),
        "check": run_check,
        "suggest-prior": commands.step(PriorOptions, suggest_prior, f"{PROGRAM} suggest-prior"),
    }
    return commands.choose(PROGRAM, steps, argv=argv)
