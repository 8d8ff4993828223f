"""What a LoRA step costs: seconds, tokens per second and peak memory, on random weights.

The shape is that of a registered model, so nothing is downloaded and no licence is needed:
neither time nor memory depends on the values of the weights.

    python benchmarks/finetuning_step.py 8b
    python benchmarks/finetuning_step.py 8b --layers 2 --vocabulary 1000   # on a small machine
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr import models
from esr.errors import UserError, run_command
from experiment_04_finetuning.dry_run import ASSUMED_TOKENS
from experiment_04_finetuning.masking import IGNORED, Encoded
from experiment_04_finetuning.settings import LoraSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from esr.models import ModelShape


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="8b", help="key of a model with a known shape")
    parser.add_argument("--tokens", type=int, default=ASSUMED_TOKENS, help="per example")
    parser.add_argument("--steps", type=int, default=5, help="measured, after one to warm up")
    parser.add_argument("--batch", type=int, default=LoraSettings().batch)
    parser.add_argument("--accumulation", type=int, default=LoraSettings().accumulation)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--vocabulary", type=int, help="smaller than the model's")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args(argv)


def random_model(d_model: int, shape: ModelShape) -> PreTrainedModel:
    """A Llama of this shape: bfloat16 on a GPU, float32 on the CPU."""
    import torch
    from transformers import LlamaForCausalLM

    from benchmarks.random_models import llama_config

    on_gpu = torch.cuda.is_available()
    dtype = torch.bfloat16 if on_gpu else torch.float32
    with torch.device("cuda" if on_gpu else "cpu"):
        return LlamaForCausalLM._from_config(llama_config(d_model, shape, dtype=dtype))


def examples(count: int, tokens: int, vocabulary: int) -> list[Encoded]:
    """Random texts, the second half of each trained."""
    rng, half = random.Random(0), tokens // 2
    texts = [[rng.randrange(vocabulary) for _ in range(tokens)] for _ in range(count)]
    return [Encoded(ids, [IGNORED] * half + ids[half:], half) for ids in texts]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train so many steps and say what they took.

    Raises:
        UserError: the model's entry has no shape, or the device's memory is too small.
    """
    from experiment_04_finetuning.training import train

    spec = models.get(options.model)
    if spec.shape is None:
        raise UserError(f"no shape is recorded for {spec.key}", "8b", "name a model with a shape")
    shape = replace(
        spec.shape,
        layers=options.layers or spec.shape.layers,
        vocabulary=options.vocabulary or spec.shape.vocabulary,
    )
    settings = LoraSettings(
        batch=options.batch,
        accumulation=options.accumulation,
        gradient_checkpointing=options.gradient_checkpointing,
    )
    per_step = settings.batch * settings.accumulation
    texts = examples(per_step, options.tokens, shape.vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        # The first step warms up; the clock of the training leaves it out.
        _, figures = train(
            random_model(spec.d_model, shape),
            texts,
            [],
            settings,
            0,
            Path(folder),
            max_steps=1 + options.steps,
            quiet=True,
        )
    seconds = figures["seconds_per_step"]
    return {
        "model": spec.key,
        "layers": shape.layers,
        "vocabulary": shape.vocabulary,
        "examples_per_step": per_step,
        "tokens_per_example": options.tokens,
        "steps": options.steps,
        "seconds_per_step": round(seconds, 3),
        "tokens_per_second": round(per_step * options.tokens / seconds, 1),
        "peak_gpu_memory_gib": figures["peak_gpu_memory_gib"],
        "trainable_parameters": figures["trainable_parameters"],
        "device": figures["device"],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status of :func:`esr.errors.run_command`."""
    options = arguments(argv)

    def command() -> None:
        text = json.dumps(measure(options), indent=1)
        print(text)
        if options.json:
            options.json.write_text(text + "\n", encoding="utf-8")

    return run_command(command)


if __name__ == "__main__":
    raise SystemExit(main())
