"""What steering costs: tokens per second of vLLM, steered against unsteered, same flags.

Every request has a latent of its own. The arms alternate within each round on one engine, with
the same prompts and lengths, so that a busy machine hits them alike; the result is the median
of the ratios. Stop tokens are off, so that every arm generates the same number of tokens.
Beside the wall clock stand tokens per second of processor time, which other programs on the
machine disturb less; on GPUs only the wall clock says something.

    python benchmarks/steering_overhead.py tiny
    python benchmarks/steering_overhead.py --random 152m --compiled both --json out.json
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.errors import UserError
from esr.runs import provenance

if TYPE_CHECKING:
    from esr.engine.base import Engine, GenerationRequest
    from esr.engine.vllm import VllmEngine
    from esr.models import ModelSpec
    from esr.steering.interventions import Intervention
    from esr.steering.sae import Dictionary

RANDOM = ("tiny", "152m", "8b-shape", "70b-shape")
ARMS = ("unsteered", "boost", "clamp", "boost+26 clamps")


@dataclass(frozen=True)
class Speed:
    """Tokens per second of wall clock and of processor time."""

    wall: float
    processor: float


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("model", nargs="?", default="tiny", help="a model key; default: tiny")
    model.add_argument("--random", choices=RANDOM, help="random weights")
    parser.add_argument("--in-flight", type=int, default=64, help="slots of the engine")
    parser.add_argument("--requests", type=int, default=192, help="requests per run")
    parser.add_argument("--tokens", type=int, default=64, help="mean length of a response")
    parser.add_argument("--prompt", type=int, default=32, help="mean length of a prompt")
    parser.add_argument("--rounds", type=int, default=7, help="runs of every arm")
    parser.add_argument("--compiled", choices=("no", "yes", "both"), default="no")
    parser.add_argument("--arms", nargs="+", choices=ARMS[1:], default=list(ARMS[1:]))
    parser.add_argument("--tensor-parallel", type=int, default=1, help="GPUs for one model")
    parser.add_argument("--baselines", action="store_true", help="also reference and SAELens")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


def requests(
    options: argparse.Namespace, arm: str, spec: ModelSpec, vocabulary: int, seed: int
) -> list[GenerationRequest]:
    """One run's requests: the same prompts and lengths for every arm of a round."""
    from esr.engine.base import GenerationRequest, Sampling

    rng = random.Random(seed)
    batch = []
    for i in range(options.requests):
        length = rng.randint(options.prompt // 2, options.prompt * 3 // 2)
        tokens = rng.randint(options.tokens * 3 // 4, options.tokens * 5 // 4)
        prompt = tuple(rng.randrange(5, vocabulary) for _ in range(length))
        sampling = Sampling(temperature=0.6, max_tokens=tokens, repetition_penalty=1.0, seed=i)
        batch.append(GenerationRequest(f"{arm}{i}", prompt, interventions(arm, i, spec), sampling))
    return batch


def interventions(arm: str, i: int, spec: ModelSpec) -> tuple[Intervention, ...]:
    """Request ``i`` has latent ``i`` to itself; the 26 clamped detectors are common to all."""
    from esr.steering.interventions import Boost, Clamp

    latent = i % (spec.d_sae - 26)
    detectors = (Clamp(spec.d_sae - 1 - k) for k in range(26))
    kinds: dict[str, tuple[Intervention, ...]] = {
        "unsteered": (),
        "boost": (Boost(latent, 1.0),),
        "clamp": (Clamp(latent, 1.0),),
        "boost+26 clamps": (Boost(latent, 1.0), *detectors),
    }
    return kinds[arm]


async def speed(engine: Engine, batch: Sequence[GenerationRequest]) -> Speed:
    """Generated tokens per second, all requests handed in at once."""
    start, processor = time.perf_counter(), processor_seconds()
    answers = await asyncio.gather(*(engine.generate(request) for request in batch))
    elapsed, processor = time.perf_counter() - start, processor_seconds() - processor
    tokens = sum(len(answer.token_ids) for answer in answers)
    return Speed(tokens / elapsed, tokens / processor)


def processor_seconds() -> float:
    """Spent by this process and the engine's so far."""
    import psutil

    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return float(sum(t.user + t.system for t in times))


async def measure(
    options: argparse.Namespace, spec: ModelSpec, dictionary: Dictionary, compiled: bool
) -> dict[str, Any]:
    """All arms, alternating, on one engine."""
    engine = start(options, spec, dictionary, compiled)
    arms = ["unsteered", *options.arms]
    vocabulary = engine.info.vocabulary
    for arm in arms:
        await speed(engine, requests(options, arm, spec, vocabulary, seed=10**6))
    speeds: dict[str, list[Speed]] = {arm: [] for arm in arms}
    for round_ in range(options.rounds):
        # The order turns, so that no arm always follows the same one.
        for arm in arms[round_ % len(arms) :] + arms[: round_ % len(arms)]:
            batch = requests(options, arm, spec, vocabulary, seed=round_)
            speeds[arm].append(await speed(engine, batch))
            last = speeds[arm][-1]
            print(
                f"  {round_ + 1:2} {arm:16} {last.wall:8.0f} tokens/s, "
                f"{last.processor:8.0f} per processor second",
                flush=True,
            )
    description = engine.describe()
    await engine.close()
    return {
        "engine": description,
        "tokens_per_second": {
            arm: statistics.median(run.wall for run in runs) for arm, runs in speeds.items()
        },
        "median_ratio": {arm: ratio(speeds, arm, "wall") for arm in options.arms},
        "median_ratio_processor": {arm: ratio(speeds, arm, "processor") for arm in options.arms},
        "runs": {arm: [dataclasses.asdict(run) for run in runs] for arm, runs in speeds.items()},
    }


def ratio(speeds: Mapping[str, Sequence[Speed]], arm: str, clock: str) -> float:
    """Median over the rounds of steered / unsteered."""
    pairs = zip(speeds[arm], speeds["unsteered"], strict=True)
    return float(statistics.median(getattr(a, clock) / getattr(b, clock) for a, b in pairs))


def start(
    options: argparse.Namespace, spec: ModelSpec, dictionary: Dictionary, compiled: bool
) -> VllmEngine:
    """An engine that does not stop at stop tokens."""
    from benchmarks.random_models import CONFIG_ONLY
    from esr.engine.options import VllmOptions
    from esr.engine.vllm import VllmEngine

    how = VllmOptions(
        options.in_flight,
        tensor_parallel=options.tensor_parallel,
        compiled=compiled,
        load_format="dummy" if options.random == CONFIG_ONLY else "auto",
    )
    engine = VllmEngine(spec, dictionary, how)
    engine.info = dataclasses.replace(engine.info, stop_token_ids=())
    return engine


async def baselines(
    options: argparse.Namespace, spec: ModelSpec, dictionary: Dictionary
) -> dict[str, float]:
    """Tokens per second of the reference engine and of SAELens; one run each, boosted."""
    from benchmarks.saelens_baseline import tokens_per_second
    from esr.engine.transformers import TransformersEngine

    reference = TransformersEngine(spec, dictionary)
    reference.info = dataclasses.replace(reference.info, stop_token_ids=())
    batch = requests(options, "boost", spec, reference.info.vocabulary, seed=0)
    await speed(reference, batch[:1])
    rates = {"transformers engine": (await speed(reference, batch[:6])).wall}
    rng = random.Random(0)
    prompts = [
        [rng.randrange(5, reference.info.vocabulary) for _ in range(options.prompt)]
        for _ in range(options.in_flight)
    ]
    latents = list(range(options.in_flight))
    await reference.close()
    rates["SAELens HookedSAETransformer"] = tokens_per_second(
        spec, dictionary, prompts, latents, options.tokens
    )
    return rates


async def main(options: argparse.Namespace) -> dict[str, Any]:
    """Every arm, eager, compiled or both, and the baselines, where asked for."""
    from benchmarks import random_models
    from esr import models
    from esr.steering import sae

    result: dict[str, Any] = {
        **provenance.collect(),
        "load_before": os.getloadavg()[0],
        "date": provenance.now(),
        "options": vars(options) | {"json": None},
    }
    with tempfile.TemporaryDirectory() as folder:
        if options.random:
            spec, dictionary = random_models.build(options.random, Path(folder))
        else:
            spec = models.get(options.model)
            dictionary = sae.load(spec.sae)
        for compiled in {"no": [False], "yes": [True], "both": [False, True]}[options.compiled]:
            name = "compiled" if compiled else "eager"
            print(f"{spec.title}, vLLM {name}", flush=True)
            result[name] = await measure(options, spec, dictionary, compiled)
            for arm, wall in result[name]["median_ratio"].items():
                processor = result[name]["median_ratio_processor"][arm]
                print(
                    f"{name}: {arm} / unsteered = {wall:.3f} wall clock, {processor:.3f} "
                    "processor time (medians)",
                    flush=True,
                )
        if options.baselines:
            result["baselines"] = await baselines(options, spec, dictionary)
            ours = result[name]["tokens_per_second"].get("boost")
            for other, value in result["baselines"].items():
                print(f"{other}: {value:.0f} tokens/s; vLLM {name} is {ours / value:.1f} times")
    return result


if __name__ == "__main__":
    given = arguments()
    try:
        measured = asyncio.run(main(given))
    except UserError as error:
        sys.exit(str(error))
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1))
