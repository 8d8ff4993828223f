"""``python -m esr.models list``, ``check FILE`` and ``suggest-prior MODEL_OR_FILE``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from esr import models
from esr.errors import UserError, run_command
from esr.models import from_toml
from esr.models.spec import ModelSpec


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message, "", f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = _Parser(prog="python -m esr.models", description="The models known here, and yours.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="all registered models")
    check = commands.add_parser("check", help="read a model file and say what it means")
    check.add_argument("file", metavar="FILE.toml")
    prior = commands.add_parser(
        "suggest-prior", help="load a model and its SAE, and suggest a prior of the boost"
    )
    prior.add_argument("model", metavar="MODEL or FILE.toml")

    def command() -> None:
        options = parser.parse_args(argv)
        if options.command == "list":
            for spec in models.REGISTRY.values():
                print(describe(spec))
        elif options.command == "check":
            print(describe(from_toml.load(Path(options.file))))
        else:
            suggest(_spec(options.model))

    return run_command(command)


def describe(spec: ModelSpec) -> str:
    """One line."""
    return (
        f"{spec.key:10} {spec.hf_id}, SAE {spec.sae.describe()}, {spec.d_sae:,} latents of width "
        f"{spec.d_model:,}, steered at layer {spec.steering_layer}, read at {spec.feature_layer}"
    )


def _spec(name: str) -> ModelSpec:
    if name.endswith(".toml"):
        return from_toml.load(Path(name), prior_needed=False)
    return models.get(name)


def suggest(spec: ModelSpec) -> None:
    """Load a model in Hugging Face transformers, measure, and print a calibration table."""
    from transformers.utils.logging import disable_progress_bar

    from esr.models import chat, prompts
    from esr.models.prior import N_PROMPTS, measure
    from esr.models.weights import check_fit, gpu_memory
    from esr.steering import sae

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


if __name__ == "__main__":
    raise SystemExit(main())
