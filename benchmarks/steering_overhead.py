"""What steering costs: tokens per second of vLLM, steered against unsteered, same flags.

Every request has a latent of its own. The arms alternate within each round, with the same prompts
and lengths, so that a busy machine hits them alike; the result is the median of the ratios over
the rounds. Many short rounds rather than few long ones: a machine whose speed drifts drifts less
between neighbours. Stop tokens are off, so that every arm generates the same number of tokens.
"none steered" is our engine with nobody to steer, against vLLM with its own worker; the other arms
stand against "none steered". Beside the wall clock stand tokens per second of processor time,
which other programs on the machine disturb less; on GPUs only the wall clock says something.

    python -m benchmarks.steering_overhead tiny --save    # and write the table: make bench
    python -m benchmarks.steering_overhead --random 152m --compiled both --json out.json
    python -m benchmarks.steering_overhead --table        # the table from the newest file
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import record
from benchmarks.overhead_arms import (
    GOALS,
    NONE,
    STOCK,
    RunSizes,
    never_stopping,
    reached,
    requests,
)
from esr.errors import UserError

if TYPE_CHECKING:
    from esr.engine.base import Generation, GenerationRequest
    from esr.engine.vllm import VllmEngine
    from esr.models import ModelSpec
    from esr.steering.sae import Dictionary

KIND = "overhead"
RANDOM = ("tiny", "152m", "8b-shape", "70b-shape")
Generate = Callable[["GenerationRequest"], Awaitable["Generation"]]


@dataclass(frozen=True)
class Speed:
    """Tokens per second of wall clock and of processor time."""

    wall: float
    processor: float


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    model = parser.add_mutually_exclusive_group()
    model.add_argument("model", nargs="?", default="tiny", help="a model key; default: tiny")
    model.add_argument("--random", choices=RANDOM, help="random weights")
    parser.add_argument("--in-flight", type=int, default=64, help="slots of the engine")
    parser.add_argument("--requests", type=int, default=128, help="requests per run")
    parser.add_argument("--tokens", type=int, default=48, help="mean length of a response")
    parser.add_argument("--prompt", type=int, default=32, help="mean length of a prompt")
    parser.add_argument("--rounds", type=int, default=31, help="runs of every arm")
    parser.add_argument("--compiled", choices=("no", "yes", "both"), default="no")
    parser.add_argument("--arms", nargs="+", choices=GOALS, default=list(GOALS))
    parser.add_argument("--tensor-parallel", type=int, default=1, help="GPUs for one model")
    parser.add_argument("--gpu-memory", type=float, help="share of a GPU each engine may take")
    parser.add_argument("--in-process", action="store_true", help="vLLM in this process: for tests")
    parser.add_argument("--no-stock", action="store_true", help="no second engine beside ours")
    parser.add_argument("--baselines", action="store_true", help="moved to benchmarks.peers")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--save", action="store_true", help="also among the results of today")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    return parser.parse_args(argv)


async def speed(generate: Generate, batch: Sequence[GenerationRequest]) -> Speed:
    """Generated tokens per second, all requests handed in at once."""
    start, processor = time.perf_counter(), processor_seconds()
    answers = await asyncio.gather(*(generate(request) for request in batch))
    elapsed, processor = time.perf_counter() - start, processor_seconds() - processor
    tokens = sum(len(answer.token_ids) for answer in answers)
    return Speed(tokens / elapsed, tokens / processor)


def processor_seconds() -> float:
    """Spent by this process and the engines' so far."""
    import psutil

    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return float(sum(t.user + t.system for t in times))


async def measure(
    options: argparse.Namespace, spec: ModelSpec, dictionary: Dictionary, compiled: bool
) -> dict[str, Any]:
    """All arms, alternating: ours on one engine, and beside it vLLM with its own worker."""
    from benchmarks.stock_vllm import StockVllm

    how = engine_options(options, compiled)
    engine = never_stopping(spec, dictionary, how)
    stock = None if options.no_stock else StockVllm(spec, dictionary, how, own_graphs=compiled)
    arms = [NONE, *(arm for arm in options.arms if arm != NONE)]
    generate: dict[str, Generate] = dict.fromkeys(arms, engine.generate)
    if stock is not None:
        generate = {STOCK: stock.generate, **generate}
    try:
        speeds = await rounds(options, spec, engine, generate)
        return {"engine": engine.describe(), **figures(speeds)}
    finally:
        await engine.close()
        if stock is not None:
            stock.close()


async def rounds(
    options: argparse.Namespace,
    spec: ModelSpec,
    engine: VllmEngine,
    generate: Mapping[str, Generate],
) -> dict[str, list[Speed]]:
    """Runs of every arm by round; the order turns, so that no arm always follows the same one."""
    arms, sizes = list(generate), RunSizes(options.requests, options.prompt, options.tokens)
    speeds: dict[str, list[Speed]] = {arm: [] for arm in arms}
    for round_ in range(-1, options.rounds):  # The first warms up: nothing of it counts.
        for arm in arms[round_ % len(arms) :] + arms[: round_ % len(arms)]:
            batch = requests(sizes, arm, spec, engine.info.vocabulary, seed=round_)
            last = await speed(generate[arm], batch)
            if round_ < 0:
                continue
            speeds[arm].append(last)
            print(
                f"  {round_ + 1:2} {arm:16} {last.wall:8.0f} tokens/s, {last.processor:8.0f} per "
                f"processor second, load {record.load()[0]}",
                flush=True,
            )
    return speeds


def figures(speeds: Mapping[str, Sequence[Speed]]) -> dict[str, Any]:
    """Medians, and the ratio of each arm to the one it is compared with, round by round."""
    compared = {
        arm: STOCK if arm == NONE else NONE
        for arm in GOALS
        if arm in speeds and (arm != NONE or STOCK in speeds)
    }
    return {
        "tokens_per_second": {
            arm: statistics.median(run.wall for run in runs) for arm, runs in speeds.items()
        },
        "compared_with": compared,
        "ratios": {arm: ratios(speeds, arm, base, "wall") for arm, base in compared.items()},
        "ratios_processor": {
            arm: ratios(speeds, arm, base, "processor") for arm, base in compared.items()
        },
        "runs": {arm: [dataclasses.asdict(run) for run in runs] for arm, runs in speeds.items()},
    }


def ratios(speeds: Mapping[str, Sequence[Speed]], arm: str, base: str, clock: str) -> list[float]:
    """An arm over the one it is compared with, in every round."""
    pairs = zip(speeds[arm], speeds[base], strict=True)
    return [getattr(a, clock) / getattr(b, clock) for a, b in pairs]


def engine_options(options: argparse.Namespace, compiled: bool) -> Any:
    """How vLLM runs."""
    from benchmarks.random_models import CONFIG_ONLY
    from esr.engine.options import VllmOptions

    more = {} if options.gpu_memory is None else {"gpu_memory": options.gpu_memory}
    return VllmOptions(
        options.in_flight,
        tensor_parallel=options.tensor_parallel,
        compiled=compiled,
        in_process=options.in_process,
        load_format="dummy" if options.random in CONFIG_ONLY else "auto",
        **more,
    )


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every arm, eager, compiled or both."""
    from benchmarks import random_models
    from esr import models
    from esr.steering import sae

    if options.baselines:
        raise UserError("--baselines has moved", "the table of peers", "python -m benchmarks.peers")
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    result = record.heading(**settings)
    with tempfile.TemporaryDirectory() as folder:
        if options.random:
            spec, dictionary = random_models.build(options.random, Path(folder))
        else:
            spec = models.get(options.model)
            dictionary = sae.load(spec.sae)
        result["title"] = spec.title
        for compiled in {"no": [False], "yes": [True], "both": [False, True]}[options.compiled]:
            name = "compiled" if compiled else "eager"
            print(f"{spec.title}, vLLM {name}, load {record.load()}", flush=True)
            result[name] = asyncio.run(measure(options, spec, dictionary, compiled))
    return {**result, "load_after": record.load()}


def text(data: Mapping[str, Any] | None) -> str:
    """The table of a measurement."""
    if data is None:
        return record.not_measured("make bench")
    settings = data["settings"]
    parts = [
        record.taken_on(data),
        f"**{data['title']}**: {settings['requests']} requests, {settings['in_flight']} in flight, "
        f"{settings['tokens']} tokens each on average, {settings['rounds']} rounds; medians of the "
        "rounds' ratios with 95 % intervals by order statistics (least and most where fewer than "
        "six).",
    ]
    for name in ("eager", "compiled"):
        if name not in data:
            continue
        measured = data[name]
        rows = [
            [
                f"{arm} / {base}",
                record.median_interval(measured["ratios"][arm]),
                record.median_interval(measured["ratios_processor"][arm]),
                GOALS[arm],
                reached(arm, statistics.median(measured["ratios"][arm])),
            ]
            for arm, base in measured["compared_with"].items()
        ]
        parts.append(
            record.table((f"vLLM {name}", "wall clock", "processor time", "goal", "reached"), rows)
        )
        speeds = ", ".join(f"{a} {v:,.0f}" for a, v in measured["tokens_per_second"].items())
        parts.append(f"Tokens per second, medians: {speeds}.")
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status of :func:`esr.errors.run_command`."""
    options = arguments(argv)

    def measured() -> dict[str, Any]:
        data = run(options)
        if options.json:
            record.save(options.json, data)
        return data

    return record.command(KIND, measured, text, keep=options.save, table=options.table)


if __name__ == "__main__":
    raise SystemExit(main())
