"""What steering costs and what memory it takes, at the shapes of the paper's models."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import steering_overhead
from benchmarks.gpu.setting import Setting, random_model, start, used
from esr.engine import memory, throughput
from esr.engine.base import GenerationRequest, ReadRequest, Sampling
from esr.models import ModelSpec
from esr.runs import provenance
from esr.steering.interventions import Boost, Clamp, Intervention

if TYPE_CHECKING:
    from esr.engine.vllm import VllmEngine

ARMS = ("none steered", "boost", "boost+26 clamps")
COUNTS = (0, 1, 8, 32, 64, 128, 256)
GOAL = 0.98
"""Of unsteered, where every request is steered differently."""


def overhead(setting: Setting, shape: str, in_flight: int, *, stock: bool) -> dict[str, Any]:
    """Tokens per second of every arm, all requests different.

    Args:
        setting: sizes.
        shape: "8b" or "70b".
        in_flight: requests at once.
        stock: whether vLLM with its own worker and its own graphs runs beside ours, each with
            less than half of the GPU.
    """
    options = ["--random", setting.shape(shape), "--rounds", str(setting.rounds)]
    options += ["--arms", *ARMS, "--tensor-parallel", str(ranks(setting, shape))]
    if setting.miniature:
        options += ["--requests", "6", "--in-flight", "4", "--tokens", "6", "--in-process"]
    else:
        options += ["--requests", str(2 * in_flight), "--in-flight", str(in_flight)]
        options += ["--tokens", "128", "--prompt", "64", "--compiled", "yes"]
    options += ["--gpu-memory", "0.45"] if stock and not setting.miniature else ["--no-stock"]
    data = steering_overhead.run(steering_overhead.arguments(options))
    measured = data["compiled" if "compiled" in data else "eager"]
    medians = {arm: statistics.median(r) for arm, r in measured["ratios"].items()}
    return {
        "passed": None if setting.miniature else medians["boost"] >= GOAL,
        "shape": shape,
        "in_flight": in_flight,
        "engine": measured["engine"],
        "tokens_per_second": measured["tokens_per_second"],
        "ratios": measured["ratios"],
        "load": [data["load_before"], data["load_after"]],
    }


def ranks(setting: Setting, shape: str) -> int:
    """GPUs that hold a shape: one, or two where one is too small."""
    if setting.miniature:
        return 1
    devices = throughput.gpus(provenance.gpus())
    return 1 if fits(shape, 1, devices[0].memory) else 2


def fits(shape: str, devices: int, size: int) -> bool:
    """Whether GPUs of ``size`` bytes hold a shape split over so many."""
    from esr import models

    spec = models.get(shape)
    assert spec.shape is not None
    return memory.plan(spec, spec.shape, devices, 64).least <= size


def distinct(setting: Setting, shape: str = "8b") -> dict[str, Any]:
    """K distinct boosts in one batch of 256; K = 0: nobody is steered."""
    in_flight = 4 if setting.miniature else 256
    counts = [k for k in COUNTS if k <= in_flight]
    with random_model(setting.shape(shape)) as (spec, dictionary):
        load = "auto" if setting.miniature else "dummy"
        options = {"max_in_flight": in_flight, "load_format": load}
        engine = start(spec, dictionary, setting, "full", **options)
        speeds = used(engine, partial(_distinct, counts=counts, setting=setting))
    base = speeds["0"]
    return {
        "in_flight": in_flight,
        "tokens_per_second": {k: statistics.median(runs) for k, runs in speeds.items()},
        "ratios": {
            k: [a / b for a, b in zip(runs, base, strict=True)] for k, runs in speeds.items()
        },
    }


async def _distinct(
    engine: VllmEngine, counts: Sequence[int], setting: Setting
) -> dict[str, list[float]]:
    n, tokens = engine.options.max_in_flight, 6 if setting.miniature else 128
    sampling = Sampling(0.0, 1.0, tokens, 1.0)
    speeds: dict[str, list[float]] = {str(count): [] for count in counts}
    for round_ in range(-1, setting.rounds):
        rng, turn = random.Random(round_), round_ % len(counts)
        prompts = [
            tuple(rng.randrange(5, engine.info.vocabulary) for _ in range(32)) for _ in range(n)
        ]
        for count in [*counts[turn:], *counts[:turn]]:
            batch = [
                GenerationRequest(
                    f"r{i}", prompt, (Boost(i % count, 1.0),) if count else (), sampling
                )
                for i, prompt in enumerate(prompts)
            ]
            measured = await steering_overhead.speed(engine.generate, batch)
            if round_ >= 0:
                speeds[str(count)].append(measured.wall)
    return speeds


class Used(threading.Thread):
    """The most memory in use on the first GPU, or by our processes where there is none, bytes."""

    def __init__(self, gpu: bool, every: float = 0.2) -> None:
        super().__init__(daemon=True)
        self.gpu, self.every, self.most = gpu, every, 0
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(self.every):
            self.most = max(self.most, self._now())

    def stop(self) -> int:
        """The most so far."""
        self._end.set()
        self.join()
        return max(self.most, self._now())

    def _now(self) -> int:
        if self.gpu:
            query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
            answer = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
            return int(answer.stdout.splitlines()[0]) * 2**20
        import psutil

        this = psutil.Process()
        return sum(p.memory_info().rss for p in (this, *this.children(recursive=True)))


def memory_use(setting: Setting, shape: str) -> dict[str, Any]:
    """The memory plan against what is used: full steps of steered prompts, and pooled reads."""
    with random_model(setting.shape(shape)) as (spec, dictionary):
        plan = _plan(spec, setting, shape)
        size = 0 if setting.miniature else throughput.gpus(provenance.gpus())[0].memory
        share = plan.share(size) if size else memory.GPU_SHARE
        options = {
            "max_in_flight": 4 if setting.miniature else 64,
            "tensor_parallel": plan.devices,
            "gpu_memory": share,
            "load_format": "auto" if setting.miniature else "dummy",
        }
        watch = Used(gpu=not setting.miniature)
        watch.start()
        began = time.perf_counter()
        engine = start(spec, dictionary, setting, "full", **options)
        loaded = watch._now()
        used(engine, partial(_fill, setting=setting))
        most = watch.stop()
    beside = most - share * size
    return {
        # Without a GPU the plan has nothing to be compared with.
        "passed": None if setting.miniature else most <= size and beside <= plan.beside,
        "devices": plan.devices,
        "share": round(share, 3),
        "planned_beside_gib": round(plan.beside / 2**30, 2),
        "used_beside_gib": round(beside / 2**30, 2),
        "used_after_start_gib": round(loaded / 2**30, 2),
        "used_most_gib": round(most / 2**30, 2),
        "seconds_with_start": round(time.perf_counter() - began, 1),
    }


def _plan(spec: ModelSpec, setting: Setting, shape: str) -> memory.MemoryPlan:
    assert spec.shape is not None
    return memory.plan(spec, spec.shape, ranks(setting, shape), 4 if setting.miniature else 64)


async def _fill(engine: VllmEngine, setting: Setting) -> None:
    length = 40 if setting.miniature else engine.info.context - 16
    n = 2 if setting.miniature else 32
    rng, d_sae = random.Random(0), engine.info.d_sae
    texts = [
        tuple(rng.randrange(5, engine.info.vocabulary) for _ in range(length)) for _ in range(n)
    ]
    steered: list[tuple[Intervention, ...]] = [
        (Boost(i, 1.0), *(Clamp(d_sae - 1 - k) for k in range(26))) for i in range(len(texts))
    ]
    sampling = Sampling(0.0, 1.0, 8, 1.0)
    await asyncio.gather(
        *(
            engine.generate(GenerationRequest(f"r{i}", text, steered[i], sampling))
            for i, text in enumerate(texts)
        )
    )
    await asyncio.gather(
        *(engine.read(ReadRequest(f"p{i}", text, None, ())) for i, text in enumerate(texts))
    )


def lora(setting: Setting, shape: str = "8b") -> dict[str, Any]:
    """One LoRA step of the paper's size."""
    from benchmarks import finetuning_step

    options = [shape]
    if setting.miniature:
        small = {"layers": 1, "vocabulary": 300, "tokens": 8, "steps": 1, "batch": 1}
        options = ["gemma-2b", "--accumulation", "1"]
        options += [part for name, n in small.items() for part in (f"--{name}", str(n))]
    return finetuning_step.measure(finetuning_step.arguments(options))
