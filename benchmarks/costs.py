"""Hours, GPU hours and judge money of every experiment at the paper's size: ``docs/costs.md``.

    python benchmarks/costs.py > docs/costs.md
    python benchmarks/costs.py --measured 70b=2900 --measured 8b=6100 > docs/costs.md

``--measured`` takes tokens per second of one engine, as ``benchmarks/steering_overhead.py`` prints
them; without it the rate is estimated. All counts are the paper's, all lengths the caps.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from esr import judge, models
from esr.engine import memory, throughput
from esr.judge import prices
from esr.models import prompts
from esr.models.spec import ModelShape, ModelSpec
from esr.pipeline.dry_run import Stage, calibration_stage, total_hours
from experiment_04_finetuning import dry_run as finetuning
from experiment_04_finetuning.settings import DataSettings, LoraSettings
from experiment_04_finetuning.sweep import Sweep

FIVE = ("70b", "8b", "gemma-2b", "gemma-9b", "gemma-27b")
GPUS = 2
IN_FLIGHT = 64
LATENTS = 1000
OTHER_JUDGES = ("sonnet", "gpt-5-mini", "qwen3-32b", "gemini-2.5-flash")


@dataclass(frozen=True)
class Part:
    """One experiment on one model. ``judges``: each grades every judged response."""

    experiment: int
    model: str
    stages: tuple[Stage, ...]
    judges: tuple[str, ...] = ("haiku",)
    extra_hours: float = 0.0
    extra_dollars: float = 0.0


def trials(name: str, count: int, *, judged: bool = True) -> Stage:
    return Stage(name, count, 512, judged=judged)


def parts() -> list[Part]:
    """The paper's counts (sections 3.1 to 3.6, A.2 to A.4)."""
    rows = []
    for key in FIVE:
        calibration = calibration_stage(on_all_engines(key), LATENTS)
        rows.append(Part(1, key, (calibration, trials("trials", 5 * LATENTS))))
        rows.append(Part(5, key, (trials("four variants", 4 * 5 * LATENTS),)))
        rows.append(Part(8, key, (trials("no steering", 5 * LATENTS),)))
    rows.append(Part(2, "70b", (trials("sweep", 2262),)))
    search = trials("unsteered", 38, judged=False)
    rows.append(Part(3, "70b", (search, trials("26 detectors clamped", 4875))))
    rows.append(_fine_tuning())
    graded = (Stage("re-graded", 1000, 512),)
    rows.append(Part(7, "", graded, OTHER_JUDGES))
    rows.append(Part(9, "70b", (Stage("boundaries", 146, 0),)))
    rows.append(Part(10, "70b", (trials("3 sets", 14450),)))
    return sorted(rows, key=lambda part: (part.experiment, FIVE.index(part.model or "70b")))


def _fine_tuning() -> Part:
    """Nine mixes and the base, some 280 latents each; both arms, the unsteered one being ours."""
    spec = on_all_engines("8b")
    sweep = Sweep(
        spec, prompts.load("", spec.prompt_set), DataSettings(), LoraSettings(), 0, Path()
    )
    latents, fine_tuned = 280, len(sweep.data.percents)
    stages = (
        calibration_stage(spec, latents * (fine_tuned + 1)),
        trials("steered", 5 * latents * (fine_tuned + 1)),
        trials("unsteered", 5 * latents * (fine_tuned + 1)),
    )
    return Part(
        *(4, "8b", stages),
        extra_hours=fine_tuned * finetuning.training_hours(sweep),
        extra_dollars=finetuning.writing_estimate(sweep).dollars or 0.0,
    )


def shape(spec: ModelSpec) -> ModelShape:
    assert spec.shape is not None
    return spec.shape


def devices(key: str) -> int:
    """GPUs of one engine: two where one would leave little room."""
    return 2 if key == "70b" else 1


def engines(key: str) -> int:
    """That fit on all GPUs."""
    return GPUS // devices(key)


def on_all_engines(key: str) -> ModelSpec:
    """With as many latents under calibration as :func:`~esr.pipeline.experiment.resolve` allows."""
    spec = models.get(key)
    return replace(spec, in_flight=spec.in_flight * engines(key))


def rate(key: str, measured: Mapping[str, float]) -> float:
    """Tokens per second of one engine."""
    spec = models.get(key)
    return measured.get(key) or throughput.tokens_per_second(
        spec, shape(spec), throughput.PAPER_GPU, devices(key), IN_FLIGHT
    )


def part_hours(part: Part, measured: Mapping[str, float]) -> float:
    """Wall-clock hours on all GPUs, as many engines as they hold."""
    if not part.model or part.experiment in (7, 9):
        return 0.0
    speed = rate(part.model, measured)
    return total_hours(part.stages, speed, IN_FLIGHT, engines(part.model)) + part.extra_hours


def part_dollars(part: Part) -> tuple[int, float]:
    """Judge calls and what they cost."""
    calls, dollars = 0, part.extra_dollars
    for name in part.judges:
        for stage in part.stages:
            if stage.judged:
                # Boundaries are asked about responses of ordinary length.
                characters = 4.0 * (stage.max_tokens or 512)
                estimate = judge.estimate(name, stage.responses, response_characters=characters)
                calls += estimate.calls
                dollars += estimate.dollars or 0.0
    return calls, dollars


def models_table(measured: Mapping[str, float]) -> list[str]:
    lines = [
        "| model | engine | weights | at least, each GPU | SAE rows in play | dictionary on disk "
        "| tokens/s | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in FIVE:
        spec = models.get(key)
        plan = memory.plan(spec, shape(spec), devices(key), IN_FLIGHT)
        gib = [n / memory.GIB for n in (plan.weights, plan.least, plan.sae_rows)]
        lines.append(
            f"| `{key}` | {devices(key)} x H100 | {gib[0]:.1f} GiB | {gib[1]:.1f} GiB "
            f"| {gib[2]:.2f} GiB | {plan.dictionary_file / memory.GIB:.1f} GiB "
            f"| {rate(key, measured):,.0f} | {'measured' if key in measured else 'estimated'} |"
        )
    return lines


def experiments_table(measured: Mapping[str, float]) -> list[str]:
    lines = [
        "| experiment | model | responses | hours | GPU hours | judge calls | judge $ | rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    sums = [0.0, 0.0]
    for part in parts():
        time, (calls, dollars) = part_hours(part, measured), part_dollars(part)
        sums[0] += time
        sums[1] += dollars
        responses = 0 if part.experiment in (7, 9) else sum(s.responses for s in part.stages)
        kind = "measured" if part.model in measured else "estimated"
        lines.append(
            f"| {part.experiment} | {part.model or 'all'} | {responses:,} | {time:.1f} "
            f"| {time * GPUS:.1f} | {calls:,} | {dollars:,.0f} | {kind if time else ''} |"
        )
    lines.append(f"| all | | | {sums[0]:.0f} | {sums[0] * GPUS:.0f} | | {sums[1]:,.0f} | |")
    return lines


TEXT = """\
# Costs at the paper's size

Computed by `python benchmarks/costs.py`; `--dry-run` of every experiment gives the same for your
options and your GPUs.

{status}

## Models

Two H100 of 80 GB, as in the paper (section 2.1), {in_flight} requests in flight per engine; 70B is
split over both, of the others each GPU holds one (`--replicas 2`).

{models}

- *At least* is what the memory plan asks of each GPU: weights, vLLM's activations and one full
  context within vLLM's share of 90 %, and beside it what steering and reading add: SAE rows,
  the largest step in float32, one block of the encoder. The plan is checked before anything loads.
- Dictionaries are never on a GPU whole. Boosts and clamps copy the rows of the latents in play, at
  most 4,096 of them. Reads over all latents stream the encoder in blocks of 256 MiB: a block and
  its activations take 0.4 GiB of GPU memory for the 65,536 latents of 70B as for the 131,072 of
  Gemma-2-27B, where the whole encoder would take 2.0 and 2.3 GiB.
- Converting a dictionary, once, holds it in main memory about 1.5 times: measured, 390 MiB for one
  of 256 MiB (JumpReLU, float32, saved by SAELens; 32,768 latents of width 1,024). That would be
  6.1 GiB for 70B and 6.9 GiB for Gemma-2-27B; the formats of the published ones were not measured.
  Later starts map the row file and hold nothing.

## Experiments

Upper bounds: every response as long as its cap, every calibration round judged, list prices of
{read_on} without batch discount (`--judge-batch` halves the judge's part where the provider has
batches). Judge: Claude Haiku 4.5; experiment 7 has its four other judges.

{experiments}

Experiment 4 includes writing the examples (Claude Sonnet 4.5) and training; experiment 6 feeds one
episode and costs nothing to speak of; experiment 9 feeds 196 texts. Replays (2, 3, 5, 8, 10) need
the run of experiment 1 first.

## Assumptions

| | |
|---|---|
| memory bandwidth reached | {bandwidth:.0%} of the data sheet's |
| arithmetic reached | {compute:.0%} of the data sheet's bf16 |
| overhead of a step | {overhead:.0f} ms, and {layer:.0f} µs per layer between GPUs |
| steered against unsteered | {steered} |
| a calibration round waits for its verdicts | {judge_seconds:.0f} s |
| length of a response | its cap: 512 tokens, 256 in calibration |
| fine-tuning | {flops:.0f} TFLOP/s sustained, {example} tokens per example |
| tokens of a text | characters / {characters:.0f} |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", action="append", default=[], metavar="MODEL=RATE")
    measured = {}
    for item in parser.parse_args().measured:
        key, _, value = item.partition("=")
        measured[models.get(key).key] = float(value)
    status = (
        "No GPU was measured: **all hours are estimates** from the assumptions below, good to a\n"
        "factor of two at best."
        if not measured
        else f"Tokens per second were measured for {', '.join(measured)}; the rest is estimated."
    )
    print(
        TEXT.format(
            status=status,
            in_flight=IN_FLIGHT,
            models="\n".join(models_table(measured)),
            experiments="\n".join(experiments_table(measured)),
            read_on=prices.READ_ON,
            bandwidth=throughput.BANDWIDTH_SHARE,
            compute=throughput.COMPUTE_SHARE,
            overhead=1e3 * throughput.STEP_OVERHEAD,
            layer=1e6 * throughput.LAYER_OVERHEAD,
            steered=throughput.STEERED_SHARE,
            judge_seconds=throughput.JUDGE_SECONDS,
            flops=finetuning.ASSUMED_FLOPS / 1e12,
            example=finetuning.ASSUMED_TOKENS,
            characters=prices.CHARACTERS_PER_TOKEN,
        ),
        end="",
    )


if __name__ == "__main__":
    main()
