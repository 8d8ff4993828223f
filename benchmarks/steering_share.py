"""What part of a run goes into steering, by clocks inside vLLM's worker.

The ratio of two runs (:mod:`benchmarks.steering_overhead`) is as uncertain as the machine's speed
from one second to the next. Here one run is measured: the seconds the worker spends in everything
that steering adds to a step, over the seconds of the whole run. Both change with the machine alike.
What steering costs outside the worker, in checks and longer messages, is not in it.

    python -m benchmarks.steering_share --save     # and write the table: make bench
    python -m benchmarks.steering_share --table    # the table from the newest file
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import record
from benchmarks.overhead_arms import GOALS, RunSizes, never_stopping, reached, requests

if TYPE_CHECKING:
    from esr.engine.vllm import VllmEngine
    from esr.models import ModelSpec

KIND = "share"
IN_A_STEP = ("admit", "forget", "begin_step", "touch", "end_step")
"""What :class:`esr.steering.batch.Steering` is asked to do while vLLM runs."""


MODELS = ("tiny", "152m")
"""A registered model, and a random one of :mod:`benchmarks.random_models`."""


@dataclass(frozen=True)
class Sizes:
    """Of the measurement."""

    requests: int = 128
    in_flight: int = 64
    tokens: int = 48
    prompt: int = 32
    rounds: int = 3


class Clock:
    """Seconds spent in wrapped functions; where one calls another, they count once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._inside = False

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, timed."""

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            if self._inside:
                return function(*args, **options)
            self._inside, start = True, time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - start
                self._inside = False

        return timed


def start_clock(worker: Any) -> None:
    """In the worker: time whatever steering does."""
    worker.benchmark_clock = Clock()
    for name in IN_A_STEP:
        setattr(worker.steering, name, worker.benchmark_clock.wrap(getattr(worker.steering, name)))


def read_clock(worker: Any) -> float:
    """In the worker: seconds since this was last asked."""
    seconds: float = worker.benchmark_clock.seconds
    worker.benchmark_clock.seconds = 0.0
    return seconds


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.steering_share",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models", nargs="*", default=MODELS, help=f"keys or shapes; default: {' '.join(MODELS)}"
    )
    for field in fields(Sizes):
        flag = "--" + field.name.replace("_", "-")
        parser.add_argument(flag, type=int, default=field.default, help=f"default: {field.default}")
    parser.add_argument("--save", action="store_true", help="among the results of today")
    parser.add_argument("--table", action="store_true", help="only write the table anew")
    return parser.parse_args(argv)


async def shares(engine: VllmEngine, spec: ModelSpec, sizes: Sizes) -> dict[str, list[float]]:
    """By arm and round, the part of the run's wall clock that the worker spent on steering."""
    call: Callable[..., Any] = engine._driver.call
    await call(start_clock)
    found: dict[str, list[float]] = {arm: [] for arm in GOALS}
    size = RunSizes(sizes.requests, sizes.prompt, sizes.tokens)
    for round_ in range(-1, sizes.rounds):  # The first warms up: nothing of it counts.
        for arm in GOALS:
            batch = requests(size, arm, spec, engine.info.vocabulary, seed=round_)
            await call(read_clock)
            start = time.perf_counter()
            await asyncio.gather(*(engine.generate(request) for request in batch))
            elapsed = time.perf_counter() - start
            (spent,) = await call(read_clock)
            if round_ >= 0:
                found[arm].append(spent / elapsed)
                print(f"  {round_ + 1:2} {arm:16} {100 * spent / elapsed:6.2f} %", flush=True)
    return found


async def measure(key: str, folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Start an engine whose worker takes our clock, and run every arm."""
    # The clock is code of ours that goes to the worker, which vLLM allows on request alone.
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    from benchmarks import random_models
    from esr.engine.options import VllmOptions

    spec, dictionary = random_models.registered_or_random(key, folder)
    print(f"{spec.title}, load {record.load()}", flush=True)
    engine = never_stopping(spec, dictionary, VllmOptions(sizes.in_flight))
    try:
        return {"title": spec.title, "shares": await shares(engine, spec, sizes)}
    finally:
        await engine.close()


def run(options: argparse.Namespace) -> dict[str, Any]:
    """All arms of every model."""
    sizes = Sizes(**{field.name: getattr(options, field.name) for field in fields(Sizes)})
    result = record.heading(**dataclasses.asdict(sizes))
    with tempfile.TemporaryDirectory() as folder:
        found = [asyncio.run(measure(key, Path(folder), sizes)) for key in options.models]
    return {**result, "models": found, "load_after": record.load()}


def text(data: Mapping[str, Any] | None) -> str:
    """The tables of a measurement."""
    if data is None:
        return record.not_measured("make bench")
    sizes = data["settings"]
    parts = [
        record.taken_on(data),
        f"vLLM eager, {sizes['requests']} requests, {sizes['in_flight']} in flight, "
        f"{sizes['tokens']} tokens each on average; medians of {sizes['rounds']} rounds, least and "
        "most.",
    ]
    for model in data["models"]:
        rows = []
        for arm, found in model["shares"].items():
            spent = record.spread([100 * share for share in found], ".2f")
            left = 1 - statistics.median(found)
            rows.append((arm, spent, f"{left:.3f}", GOALS[arm], reached(arm, left)))
        header = (model["title"], "of the run, %", "left for vLLM", "goal", "reached")
        parts.append(record.table(header, rows))
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; the exit status of :func:`esr.errors.run_command`."""
    options = arguments(argv)
    keep, table = options.save, options.table
    return record.command(KIND, lambda: run(options), text, keep=keep, table=table)


if __name__ == "__main__":
    # Under its own name: the worker imports it to find the clock.
    from benchmarks.steering_share import main as command

    raise SystemExit(command())
