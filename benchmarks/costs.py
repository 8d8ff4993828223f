"""Hours, GPU hours and judge money of every experiment at the paper's size: ``docs/costs.md``.

    python -m benchmarks.costs > docs/costs.md
    python -m benchmarks.costs --measured 70b=2900 --measured 8b=6100

Tokens per second of one engine are those of the newest GPU check (:mod:`benchmarks.gpu`), or of
``--measured``; where neither has one, the rate is estimated. All counts are the paper's, all
lengths the caps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import record
from benchmarks.gpu import tables as gpu_tables
from esr import judge, models
from esr.engine import memory, throughput
from esr.judge import prices
from esr.models import prompts
from esr.models.spec import ModelShape, ModelSpec
from esr.models.weights import gib
from esr.pipeline.cli import CommonConfig
from esr.pipeline.dry_run import total_hours
from esr.pipeline.stages import Stage, calibration_stage
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
    """One experiment on one model; each judge grades every judged response.

    ``responses`` is 0 where recorded ones are graded; ``hours`` and ``dollars`` come on top.
    """

    experiment: int
    model: str
    stages: tuple[Stage, ...]
    judges: tuple[str, ...] = ("haiku",)
    generates: bool = True
    hours: float = 0.0
    dollars: float = 0.0

    def total_hours(self, rates: Mapping[str, float]) -> float:
        """Wall-clock hours on all GPUs, as many engines as they hold."""
        if not self.generates:
            return 0.0
        rate = rates[self.model]
        return self.hours + total_hours(self.stages, rate, IN_FLIGHT, GPUS // devices(self.model))

    def judging(self) -> tuple[int, float]:
        """Judge calls and what they cost."""
        estimates = [
            judge.estimate(name, stage.responses, response_characters=4.0 * stage.max_tokens)
            for name in self.judges
            for stage in self.stages
            if stage.judged
        ]
        dollars = sum(estimate.dollars or 0.0 for estimate in estimates)
        return sum(estimate.calls for estimate in estimates), self.dollars + dollars


def devices(key: str) -> int:
    """GPUs of one engine: two where one would leave little room."""
    return 2 if key == "70b" else 1


def trials(name: str, count: int, *, judged: bool = True) -> Stage:
    return Stage(name, count, 512, judged=judged)


def calibration(key: str, n_latents: int) -> Stage:
    """On the paper's machine."""
    return calibration_for(key, n_latents, GPUS // devices(key))


def calibration_for(key: str, n_latents: int, engines: int) -> Stage:
    """With as many latents at once as :func:`esr.pipeline.settings.resolve` allows."""
    spec = models.get(key)
    wide = replace(spec, in_flight=spec.in_flight * engines)
    return calibration_stage(CommonConfig(model=key), wide, n_latents)


def parts() -> list[Part]:
    """The paper's counts (sections 3.1 to 3.6, A.2 to A.4)."""
    rows = []
    for key in FIVE:
        rows.append(Part(1, key, (calibration(key, LATENTS), trials("trials", 5 * LATENTS))))
        rows.append(Part(5, key, (trials("four variants", 4 * 5 * LATENTS),)))
        rows.append(Part(8, key, (trials("no steering", 5 * LATENTS),)))
    search = trials("unsteered", 38, judged=False)
    rows += [
        Part(2, "70b", (trials("sweep", 2262),)),
        Part(3, "70b", (search, trials("26 detectors clamped", 4875))),
        fine_tuning(),
        Part(7, "all", (trials("re-graded", 1000),), OTHER_JUDGES, generates=False),
        Part(9, "70b", (trials("boundaries", 146),), generates=False),
        Part(10, "70b", (trials("3 sets", 14450),)),
    ]
    return sorted(rows, key=lambda part: part.experiment)


def fine_tuning() -> Part:
    """Nine mixes and the base, some 280 latents each; both arms, the unsteered one being ours."""
    spec, data, lora = models.get("8b"), DataSettings(), LoraSettings()
    sweep = Sweep(spec, prompts.load("", spec.prompt_set), data, lora, 0, Path())
    latents = 280 * (len(data.percents) + 1)
    return Part(
        *(4, "8b"),
        (
            calibration("8b", latents),
            trials("steered", 5 * latents),
            trials("unsteered", 5 * latents),
        ),
        hours=len(data.percents) * finetuning.training_hours(sweep),
        dollars=finetuning.writing_estimate(sweep).dollars or 0.0,
    )


def model_rows(rates: Mapping[str, float]) -> Iterator[str]:
    for key, rate in rates.items():
        spec = models.get(key)
        plan = memory.plan(spec, shape(spec), devices(key), IN_FLIGHT)
        yield (
            f"| `{key}` | {devices(key)} x H100 | {gib(plan.weights)} | {gib(plan.least)} "
            f"| {gib(plan.sae_rows)} | {gib(plan.dictionary_file)} | {rate:,.0f} |"
        )


def experiment_rows(rates: Mapping[str, float]) -> Iterator[str]:
    all_hours = all_dollars = 0.0
    for part in parts():
        hours, (calls, dollars) = part.total_hours(rates), part.judging()
        all_hours, all_dollars = all_hours + hours, all_dollars + dollars
        responses = sum(stage.responses for stage in part.stages) if part.generates else 0
        yield (
            f"| {part.experiment} | {part.model} | {responses:,} | {hours:.1f} "
            f"| {hours * GPUS:.1f} | {calls:,} | {dollars:,.0f} |"
        )
    yield f"| all | | | {all_hours:.0f} | {all_hours * GPUS:.0f} | | {all_dollars:,.0f} |"


def shape(spec: ModelSpec) -> ModelShape:
    assert spec.shape is not None
    return spec.shape


def rate(key: str) -> float:
    """Tokens per second of one engine; estimated."""
    spec = models.get(key)
    gpu = throughput.PAPER_GPU
    return throughput.tokens_per_second(spec, shape(spec), gpu, devices(key), IN_FLIGHT)


TEXT = """\
# Costs at the paper's size

Computed by `python -m benchmarks.costs`; `--dry-run` of every experiment gives the same for your
options and your GPUs.

{status}

## Models

Two H100 of 80 GB, as in the paper (section 2.1), {in_flight} requests in flight per engine; 70B is
split over both, of the others each GPU holds one (`--replicas 2`).

| model | engine | weights | at least, each GPU | SAE rows in play | dictionary on disk | tokens/s |
|---|---|---|---|---|---|---|
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

| experiment | model | responses | hours | GPU hours | judge calls | judge $ |
|---|---|---|---|---|---|---|
{experiments}

Experiment 4 includes writing the examples (Claude Sonnet 4.5) and training; experiment 6 feeds one
episode and costs nothing to speak of; experiment 9 feeds 196 texts. Replays (2, 3, 5, 8, 10) need
the run of experiment 1 first.

## Assumptions

| | |
|---|---|
| memory bandwidth reached | {bandwidth:.0%} of the data sheet's |
| arithmetic reached | {compute:.0%} of the data sheet's bf16 |
| overhead of a step | {overhead:.0f} ms |
| a calibration round waits for its verdicts | {judge_seconds:.0f} s |
| length of a response | its cap: 512 tokens, 256 in calibration |
| fine-tuning | {flops:.0f} TFLOP/s sustained, {example} tokens per example |
| tokens of a text | characters / {characters:.0f} |
"""


def known_rates(measured: Mapping[str, float]) -> dict[str, float]:
    """Tokens per second of one engine, of every model: measured, else estimated."""
    return {key: measured.get(key) or rate(key) for key in FIVE}


def status(measured: Mapping[str, float]) -> str:
    """What the rates rest on."""
    if not measured:
        return (
            "No GPU was measured: **all hours are estimates** from the assumptions below, good to a"
            "\nfactor of two at best."
        )
    data = gpu_tables.newest()
    where = f" ({record.taken_on(data).rstrip('.')})" if data else ""
    return (
        f"Tokens per second were measured for {', '.join(measured)}{where}; the rest is estimated."
    )


def document(measured: Mapping[str, float]) -> str:
    """The whole document."""
    rates = known_rates(measured)
    return TEXT.format(
        status=status(measured),
        in_flight=IN_FLIGHT,
        models="\n".join(model_rows(rates)),
        experiments="\n".join(experiment_rows(rates)),
        read_on=prices.READ_ON,
        bandwidth=throughput.BANDWIDTH_SHARE,
        compute=throughput.COMPUTE_SHARE,
        overhead=1e3 * throughput.STEP_OVERHEAD,
        judge_seconds=throughput.JUDGE_SECONDS,
        flops=finetuning.ASSUMED_FLOPS / 1e12,
        example=finetuning.ASSUMED_TOKENS,
        characters=prices.CHARACTERS_PER_TOKEN,
    )


def main() -> None:
    """Print the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measured", action="append", default=[], metavar="MODEL=RATE")
    pairs = [item.partition("=") for item in parser.parse_args().measured]
    named = {models.get(key).key: float(value) for key, _, value in pairs}
    print(document({**gpu_tables.rates(gpu_tables.newest()), **named}), end="")


if __name__ == "__main__":
    main()
