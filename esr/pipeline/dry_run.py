"""``--dry-run``: calls, tokens, money and memory, with no GPU, no key and no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esr import judge
from esr.engine import memory, throughput
from esr.engine.base import Sampling
from esr.models import prompts
from esr.pipeline import replay
from esr.pipeline.cli import ReplayConfig
from esr.runs import provenance

if TYPE_CHECKING:
    from esr.judge.prices import Estimate
    from esr.models import ModelSpec
    from esr.pipeline.cli import CommonConfig


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
        at_once: responses of one round, where the next waits for the verdicts of this one, as
            calibration does; 0 where nothing waits.
    """

    name: str
    responses: int
    max_tokens: int
    judged: bool = True
    reads: int = 0
    template: str = "{prompt}"
    note: str = ""
    at_once: int = 0


def choosing_stage(config: CommonConfig, spec: ModelSpec) -> Stage:
    """The reads of the latent filter: one per prompt."""
    reads = len(prompts.load(config.prompts, spec.prompt_set).prompts)
    return Stage("choosing latents", 0, 0, judged=False, reads=reads)


def calibration_stage(spec: ModelSpec, n_latents: int, note: str = "") -> Stage:
    """The bisection of ``n_latents`` thresholds (paper A.1.4)."""
    settings = spec.calibration
    return Stage(
        "calibration",
        n_latents * settings.rounds * settings.prompts_per_round,
        settings.max_tokens,
        note=note,
        at_once=min(spec.in_flight, n_latents) * settings.prompts_per_round,
    )


def show_plan(name: str, config: CommonConfig, spec: ModelSpec, stages: list[Stage]) -> None:
    """Print what a command would do."""
    profile = spec.profile(config.profile)
    prompt_set = prompts.load(config.prompts, spec.prompt_set)
    judge_name = config.judge or spec.judge
    print(f"{name} on {spec.title} ({spec.hf_id})")
    print(f"  SAE {spec.sae.describe()}: {spec.d_sae:,} latents of width {spec.d_model:,}")
    print(f"  steering layer {spec.steering_layer}, feature layer {spec.feature_layer}")
    print(
        f"  profile {config.profile}: temperature {Sampling.temperature}, repetition penalty "
        f"{profile.repetition_penalty}, chat {profile.chat_variant}"
    )
    print(f"  prompts {prompt_set.name} ({len(prompt_set.prompts)})")
    variable = judge.key_variable(judge_name)
    key = f"; {variable} is {'set' if judge.has_key(judge_name) else 'missing'}"
    print(f"  judge {judge.resolve(judge_name)}{key if variable else ''}")
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
    for line in _machine(config, spec, stages):
        print(f"  {line}")
    first = prompt_set.prompts[0]
    template = stages[-1].template if stages else "{prompt}"
    turn = template.replace("{prompt}", first.text).replace("\n", "\n    ")
    print(f"\n  one prompt as rendered ({first.id}):\n    user: {turn}\n    assistant:")


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
        if stage.at_once:
            # A step with fewer requests is taken to last as long as a full one, which is nearly so.
            each = stage.max_tokens * in_flight / rate + throughput.JUDGE_SECONDS
            seconds += stage.responses / stage.at_once * each
        else:
            seconds += stage.responses * stage.max_tokens / (rate * engines)
    return seconds / 3600


def _estimate(judge_name: str, config: CommonConfig, stages: list[Stage]) -> str:
    """Of all judged stages; those that wait for their verdicts are never judged by batch."""
    waiting = [stage for stage in stages if stage.at_once]
    others = [stage for stage in stages if not stage.at_once]
    once = _part(judge_name, config, waiting, False)
    return str(once + _part(judge_name, config, others, config.judge_batch))


def _part(judge_name: str, config: CommonConfig, stages: list[Stage], batch: bool) -> Estimate:
    calls = sum(stage.responses for stage in stages if stage.judged)
    tokens = sum(stage.responses * stage.max_tokens for stage in stages if stage.judged)
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
    if gpus[0].bandwidth:
        rate = throughput.tokens_per_second(spec, shape, gpus[0], devices, config.in_flight)
        total = total_hours(stages, rate, config.in_flight, replicas)
        lines.append(
            f"hours, at most: {total:.1f}, estimated from {rate:,.0f} tokens per second "
            "and engine (docs/costs.md)"
        )
    return lines


def planned_trials(config: ReplayConfig, spec: ModelSpec) -> int:
    """Trials a replay will have; where there is no parent yet, as many as it may get."""
    parent = replay.find_or_none(config, spec)
    if parent is None:
        return (config.n_latents or spec.n_latents) * (config.n_trials or spec.n_trials)
    return parent.replayable(config.n_latents, config.n_trials)
