"""``--dry-run``: calls, tokens, money and memory, with no GPU, no key and no download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from esr import judge, prompts

if TYPE_CHECKING:
    from esr.cli import CommonConfig
    from esr.models import ModelSpec


@dataclass(frozen=True)
class Stage:
    """One stage of an experiment.

    Attributes:
        name: e.g. "calibration".
        responses: to generate, at most.
        max_tokens: cap of each response.
        judged: whether each response is judged.
        reads: texts fed to read latents.
        template: of the user turn, where it is not the question alone.
        note: printed below the table.
    """

    name: str
    responses: int
    max_tokens: int
    judged: bool = True
    reads: int = 0
    template: str = "{prompt}"
    note: str = ""


def show_plan(name: str, config: CommonConfig, spec: ModelSpec, stages: list[Stage]) -> None:
    """Print what a command would do."""
    profile = spec.profile(config.profile)
    prompt_set = prompts.load(config.prompts, spec.prompt_set)
    judge_name = config.judge or spec.judge
    print(f"{name} on {spec.title} ({spec.hf_id})")
    print(f"  SAE {spec.sae.describe()}: {spec.d_sae:,} latents of width {spec.d_model:,}")
    print(f"  steering layer {spec.steering_layer}, feature layer {spec.feature_layer}")
    print(
        f"  profile {config.profile}: temperature 0.6, repetition penalty "
        f"{profile.repetition_penalty}, chat {profile.chat_variant}"
    )
    print(f"  prompts {prompt_set.name} ({len(prompt_set.prompts)})")
    print(f"  judge {judge.resolve(judge_name)}")
    print()
    print(f"  {'stage':24}{'responses':>11}{'max tokens':>14}{'reads':>8}{'judge calls':>13}")
    for stage in stages:
        calls = stage.responses if stage.judged else 0
        print(
            f"  {stage.name:24}{stage.responses:>11,}{stage.responses * stage.max_tokens:>14,}"
            f"{stage.reads:>8,}{calls:>13,}"
        )
    for stage in stages:
        if stage.note:
            print(f"  {stage.name}: {stage.note}")
    print(f"\n  judge, at most: {_estimate(judge_name, config, stages)}")
    for line in _memory(spec):
        print(f"  {line}")
    first = prompt_set.prompts[0]
    template = stages[-1].template if stages else "{prompt}"
    turn = template.replace("{prompt}", first.text).replace("\n", "\n    ")
    print(f"\n  one prompt as rendered ({first.id}):\n    user: {turn}\n    assistant:")


def _estimate(judge_name: str, config: CommonConfig, stages: list[Stage]) -> str:
    calls = sum(stage.responses for stage in stages if stage.judged)
    tokens = sum(stage.responses * stage.max_tokens for stage in stages if stage.judged)
    characters = 4.0 * tokens / calls if calls else 0.0
    return str(
        judge.estimate(
            judge_name,
            calls,
            response_characters=characters,
            rubric=config.rubric,
            batch=config.judge_batch,
        )
    )


def _memory(spec: ModelSpec) -> list[str]:
    if spec.shape is None:
        return []
    width = 1 if spec.quantization.startswith("fp8") else (4 if spec.dtype == "float32" else 2)
    weights = spec.shape.parameters(spec.d_model) * width / 2**30
    # Encoder and decoder in float32, streamed in blocks for a full-dictionary read.
    rows = 2 * spec.d_sae * spec.d_model * 4 / 2**30
    return [
        f"GPU memory: weights {weights:,.1f} GiB ({spec.quantization or spec.dtype}) and KV cache",
        f"disk: SAE rows {rows:,.1f} GiB; only the rows in play are copied to the GPU",
    ]
