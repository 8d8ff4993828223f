"""How long a run takes, to a factor of two: an estimate from the model's shape and the GPU's data.

A decoding step reads all weights and the cache of the requests in flight once, and multiplies
every weight twice per token; the slower of the two, and a fixed overhead, is its duration. The
assumptions are the constants below; ``benchmarks/steering_overhead.py`` measures instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from esr.engine.memory import GIB
from esr.engine.memory import plan as memory_plan
from esr.models.spec import ModelShape, ModelSpec

BANDWIDTH_SHARE, COMPUTE_SHARE = 0.7, 0.4
"""What vLLM reaches of a GPU's memory bandwidth and arithmetic: assumptions."""

STEP_OVERHEAD = 0.004
"""Seconds of a step that no arithmetic explains: scheduler, launches, sampling. Assumption."""

JUDGE_SECONDS = 6.0
"""What a calibration round waits for its verdicts. Assumption."""


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        name: as its maker writes it.
        memory: bytes.
        bandwidth: bytes per second; 0 where not known.
        flops: bf16 operations per second without sparsity; 0 where not known.
    """

    name: str
    memory: int
    bandwidth: float = 0.0
    flops: float = 0.0


PAPER_GPU = Gpu("H100", 80 * GIB, 3.35e12, 989e12)
"""Of which the paper has two per run (section 2.1)."""

# From NVIDIA's data sheets: https://www.nvidia.com/en-us/data-center/
_KNOWN = {
    "H200": (4.8e12, 989e12),
    "H100 PCIe": (2.0e12, 756e12),
    "H100": (3.35e12, 989e12),
    "A100": (2.0e12, 312e12),
    "L40S": (0.864e12, 362e12),
}


def gpus(lines: Sequence[str]) -> list[Gpu]:
    """GPUs from :func:`esr.runs.provenance.gpus`, e.g. ``NVIDIA H200, 143771 MiB``."""
    devices = []
    for line in lines:
        name, _, memory = line.rpartition(",")
        number = re.match(r"\s*(\d+)\s*MiB", memory)
        if number is None:
            continue
        speed = next((s for key, s in _KNOWN.items() if key in name), (0.0, 0.0))
        devices.append(Gpu(name.strip(), int(number[1]) * 2**20, *speed))
    return devices


def tokens_per_second(
    spec: ModelSpec, shape: ModelShape, gpu: Gpu, devices: int, in_flight: int
) -> float:
    """Tokens of all requests in flight per second of decoding; estimated."""
    needs = memory_plan(spec, shape, devices, in_flight)
    # Half the final length, on average, is in the cache.
    traffic = needs.weights + needs.all_responses / 2
    arithmetic = 2 * shape.parameters(spec.d_model) * in_flight / devices
    slowest = max(
        traffic / (BANDWIDTH_SHARE * gpu.bandwidth), arithmetic / (COMPUTE_SHARE * gpu.flops)
    )
    return in_flight / (slowest + STEP_OVERHEAD)
