"""``--dry-run``: calls, tokens, money, memory and what is needed; no GPU, no key, no download."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from esr import judge
from esr.analysis import power
from esr.engine import memory, throughput
from esr.engine.base import Sampling
from esr.errors import UserError
from esr.models import chat, prompts
from esr.models.weights import is_local
from esr.pipeline import preflight
from esr.runs import hub, provenance

if TYPE_CHECKING:
    from esr.judge.prices import Estimate
    from esr.models import ModelSpec
    from esr.models.prompts import PromptSet
    from esr.pipeline.cli import CommonConfig
    from esr.pipeline.stages import Stage


def show_plan(name: str, config: CommonConfig, spec: ModelSpec, stages: list[Stage]) -> None:
    """Print what a command would do and what it needs.

    Raises:
        UserError: something that it needs is missing.
    """
    prompt_set = prompts.load(config.prompts, spec.prompt_set)
    judge_name = config.judge or spec.judge
    for line in _heading(name, config, spec, prompt_set):
        print(line)
    print(f"  judge {judge.resolve(judge_name)}\n")
    for line in _table(stages):
        print(f"  {line}")
    for line in _power(stages):
        print(f"  {line}")
    print(f"\n  judge, at most: {_estimate(judge_name, config, stages)}")
    for line in _machine(config, spec, stages):
        print(f"  {line}")
    template = stages[-1].template if stages else "{prompt}"
    turn = template.replace("{prompt}", prompt_set.prompts[0].text)
    rendered = "\n    ".join(_rendered(config, spec, turn).splitlines())
    print(f"\n  one prompt as rendered ({prompt_set.prompts[0].id}):\n    {rendered}")
    needed = preflight.needs(config, spec, stages)
    print("\n  needed:")
    for line in preflight.lines(needed):
        print(f"    {line}")
    preflight.refuse(needed)


def _heading(
    name: str, config: CommonConfig, spec: ModelSpec, prompt_set: PromptSet
) -> Iterator[str]:
    profile = spec.profile(config.profile)
    yield f"{name} on {spec.title} ({spec.hf_id})"
    yield f"  SAE {spec.sae.describe()}: {spec.d_sae:,} latents of width {spec.d_model:,}"
    yield f"  steering layer {spec.steering_layer}, feature layer {spec.feature_layer}"
    yield (
        f"  profile {config.profile}: temperature {Sampling.temperature}, repetition penalty "
        f"{profile.repetition_penalty}, chat {profile.chat_variant}"
    )
    yield f"  prompts {prompt_set.name} ({len(prompt_set.prompts)})"


def _table(stages: Sequence[Stage]) -> Iterator[str]:
    """One line per stage, and the notes below."""
    yield f"{'stage':24}{'responses':>11}{'max tokens':>14}{'reads':>8}{'judge calls':>13}"
    for stage in stages:
        calls = stage.asked + (stage.responses if stage.judged else 0)
        yield (
            f"{stage.name:24}{stage.responses:>11,}{stage.responses * stage.max_tokens:>14,}"
            f"{stage.reads:>8,}{calls:>13,}"
        )
    yield from (f"{stage.name}: {stage.note}" for stage in stages if stage.note)


def _power(stages: Sequence[Stage]) -> Iterator[str]:
    """What the trials could tell apart, at the rates of the paper."""
    for trials in dict.fromkeys(stage.compared for stage in stages if stage.compared):
        told = "; ".join(power.tells(trials, *pair) for pair in power.CONTRASTS)
        yield f"{trials:,} trials in two arms tell {told}"
    if any(stage.compared for stage in stages):
        yield (
            f"(with a chance of {100 * power.POWER:.0f} %, at the {100 * power.ALPHA:.0f} % level, "
            "if trials were independent; latents and prompts that differ make it 1.3 to 5 times "
            "as many: docs/statistics.md)"
        )


def _rendered(config: CommonConfig, spec: ModelSpec, turn: str) -> str:
    """The user turn in the model's whole chat template, as its tokenizer reads it back."""
    local = spec
    if not is_local(spec):
        snapshot = hub.cached(spec.hf_id, spec.revision)
        if snapshot is None:
            return f"{turn}\n(the chat template comes with the model, not on this machine)"
        local = replace(spec, hf_id=str(snapshot))
    try:
        template = chat.load(local, spec.profile(config.profile).chat_variant)
    except UserError as error:
        return f"{turn}\n(no chat template: {error.problem})"
    return str(template.tokenizer.decode(template.prompt_ids(turn)))


def total_hours(stages: Sequence[Stage], rate: float, in_flight: int, engines: int) -> float:
    """Hours if every response is as long as it may be.

    Args:
        stages: what is generated, one after the other.
        rate: tokens per second of one engine with ``in_flight`` requests.
        in_flight: requests in flight of one engine.
        engines: that share the work.
    """
    seconds = 0.0
    for stage in stages:
        # A step with fewer requests is taken to last as long as a full one, which is nearly so.
        if stage.at_once:
            each = stage.max_tokens * in_flight / rate + throughput.JUDGE_SECONDS
            seconds += stage.responses / stage.at_once * each
        else:
            filled = min(1.0, (stage.in_flight or in_flight) / in_flight)
            seconds += stage.responses * stage.max_tokens / (rate * filled * engines)
    return seconds / 3600


def _estimate(judge_name: str, config: CommonConfig, stages: list[Stage]) -> str:
    """Of all judged stages; those that wait for their verdicts are never judged by batch."""
    waiting = [stage for stage in stages if stage.at_once]
    others = [stage for stage in stages if not stage.at_once]
    once = _part(judge_name, config, waiting, False)
    return str(once + _part(judge_name, config, others, config.judge_batch))


def _part(judge_name: str, config: CommonConfig, stages: list[Stage], batch: bool) -> Estimate:
    judged = [stage for stage in stages if stage.judged]
    calls = sum(stage.responses for stage in judged) + sum(stage.asked for stage in stages)
    tokens = sum(stage.responses * stage.max_tokens for stage in judged)
    characters = 4.0 * tokens / calls if calls else 0.0
    return judge.estimate(
        judge_name, calls, response_characters=characters, rubric=config.rubric, batch=batch
    )


def _machine(config: CommonConfig, spec: ModelSpec, stages: list[Stage]) -> list[str]:
    """Memory and hours, on the GPUs there are, or else on the paper's."""
    shape = memory.shape_of(spec)
    if shape is None:
        return ["memory: not known before the model is downloaded; a [shape] table says it"]
    here = throughput.gpus(provenance.gpus())
    weights = memory.weight_bytes(spec, shape, quantised=False)
    if not here and weights < memory.GIB:
        return [f"memory: weights {weights / 2**20:,.1f} MiB; runs without a GPU"]
    gpus = here or [throughput.PAPER_GPU] * 2
    replicas = config.replicas
    devices = config.tensor_parallel or max(1, len(gpus) // replicas)
    where = "here" if here else "the paper's machine; there is no GPU here"
    engines = "1 engine" if replicas == 1 else f"{replicas} engines"
    lines = [f"{len(gpus)} x {gpus[0].name} ({where}): {engines}, split over {devices}"]
    lines += memory.plan(spec, shape, devices, config.in_flight).lines()
    alone = memory.plan(spec, shape, 1, config.in_flight)
    if 1 < devices == len(gpus) and alone.least + alone.all_responses <= gpus[0].memory:
        lines.append(f"each GPU holds the model: --replicas {devices} would be faster")
    if gpus[0].bandwidth:
        rate = throughput.tokens_per_second(spec, shape, gpus[0], devices, config.in_flight)
        total = total_hours(stages, rate, config.in_flight, replicas)
        lines.append(
            f"hours, at most: {total:.1f} without loading the model, estimated from {rate:,.0f} "
            "tokens per second and engine (docs/costs.md)"
        )
    return lines
