"""The memory plan: what a model, its key-value cache and its SAE rows need, before anything loads.

Sizes follow from the model's shape alone, so the plan needs no GPU and no download. It is shown
by ``--dry-run`` and checked against the machine before the engine starts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from esr.errors import UserError
from esr.models.spec import ModelShape, ModelSpec
from esr.models.weights import (
    BYTES,
    GIB,
    check_fit,
    gib,
    shape_of,
    splits,
    too_large,
    weight_bytes,
)
from esr.steering.limits import ENCODER_BLOCK, KEEP, WORKSPACE

GPU_SHARE = 0.9
"""Largest share of each GPU that vLLM takes. What we add must fit into the rest, because vLLM
measures its peak with our hooks at rest."""

STEP_TOKENS = 8192
"""Most tokens of one step, but for a longer context."""

STEERING_COPIES = 6
"""Float32 copies of a step's rows that exist at once while they are steered (measured)."""

CUDA_CONTEXT = GIB
"""Driver, kernels and communication buffers: an assumption."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device.

    Attributes:
        devices: GPUs (ranks) one model is split over.
        weights: of this rank.
        one_response: key-value cache of one full context: the least vLLM starts with.
        all_responses: of all requests in flight, prompts of 128 tokens assumed.
        activations: of the largest step, vLLM's own: an estimate.
        sae_rows: what the rows in play read and write, float32, on every rank.
        steering: what the hook needs for the largest step, while it runs.
        pooled_reads: encoder block and activations of a read over the whole dictionary.
        dictionary_file: encoder and decoder on disk, memory-mapped, never on the device whole.
    """

    devices: int
    weights: int
    one_response: int
    all_responses: int
    activations: int
    sae_rows: int
    steering: int
    pooled_reads: int
    dictionary_file: int

    @property
    def inside(self) -> int:
        """What must fit into vLLM's share."""
        return self.weights + self.activations + self.one_response

    @property
    def beside(self) -> int:
        """What must fit beside vLLM's share."""
        return self.sae_rows + self.steering + self.pooled_reads + CUDA_CONTEXT

    @property
    def least(self) -> int:
        """Least memory of a device."""
        return math.ceil(max(self.inside / GPU_SHARE, self.inside + self.beside))

    def share(self, memory: int) -> float:
        """Share of a device of ``memory`` bytes that vLLM may take."""
        return min(GPU_SHARE, 1 - self.beside / memory)

    def lines(self) -> list[str]:
        """For ``--dry-run``."""
        each = "the GPU" if self.devices == 1 else f"each of {self.devices} GPUs"
        return [
            f"memory of {each}, at least {gib(self.least)}:",
            f"  weights {gib(self.weights)}, activations {gib(self.activations)}, key-value "
            f"cache {gib(self.one_response)} for one full context, {gib(self.all_responses)} "
            "for all requests in flight",
            f"  SAE rows {gib(self.sae_rows)} for the latents in play, steering "
            f"{gib(self.steering)}, pooled reads {gib(self.pooled_reads)}",
            f"  on disk: SAE rows {gib(self.dictionary_file)}, read as needed",
        ]


def step_tokens(context: int) -> int:
    """Most tokens of one step for a context of so many tokens: a prompt fits into one."""
    return max(STEP_TOKENS, context)


def plan(spec: ModelSpec, shape: ModelShape, devices: int = 1, in_flight: int = 64) -> MemoryPlan:
    """The memory plan of a model on vLLM, split over ``devices``."""
    width = BYTES[spec.dtype]
    heads = math.ceil(shape.kv_heads / devices)
    per_token = 2 * shape.layers * heads * shape.head_dim * width
    row = 4 * spec.d_model
    context = spec.context + 1
    # Per token of the step: both halves of the gated block, and a few widths of the stream.
    per_activation = width * (2 * shape.ffn // devices + 4 * spec.d_model)
    return MemoryPlan(
        devices=devices,
        weights=math.ceil(weight_bytes(spec, shape) / devices),
        one_response=per_token * context,
        all_responses=per_token * in_flight * min(context, spec.max_tokens + 128),
        activations=step_tokens(context) * per_activation,
        sae_rows=KEEP * (2 * row + 16),
        steering=STEERING_COPIES * step_tokens(context) * row,
        pooled_reads=_pooled_reads(spec, in_flight),
        dictionary_file=2 * spec.d_sae * row,
    )


def replicas(spec: ModelSpec, gpus: Sequence[int], in_flight: int, ranks: int = 0) -> int:
    """How many engines the GPUs of one machine hold: ``--replicas auto``.

    Args:
        spec: the model.
        gpus: bytes of each GPU; without one there is one engine.
        in_flight: requests in flight of each.
        ranks: GPUs of each engine; 0: as few as hold the weights and all requests in flight, or
            else one request.

    Returns:
        At least 1, whether it fits or not: that is refused elsewhere.
    """
    shape = shape_of(spec)
    if ranks or not gpus or shape is None:
        return max(1, len(gpus) // (ranks or len(gpus) or 1))
    for comfortable in (True, False):
        for n in range(1, len(gpus) + 1):
            needed = plan(spec, shape, n, in_flight)
            size = needed.least + (needed.all_responses if comfortable else 0)
            if size <= min(gpus) and splits(shape, n):
                return len(gpus) // n
    return 1


def _pooled_reads(spec: ModelSpec, in_flight: int) -> int:
    """Encoder block, residual rows, three activation tables, three numbers per latent and read."""
    block = min(ENCODER_BLOCK, 4 * spec.d_sae * spec.d_model)
    residual = 2 * 4 * step_tokens(spec.context + 1) * spec.d_model
    return block + residual + 3 * 4 * WORKSPACE + 3 * 4 * spec.d_sae * in_flight


def check(spec: ModelSpec, engine: str, devices: int, in_flight: int, gpus: Sequence[int]) -> float:
    """Refuse what cannot fit, before the engine starts.

    Args:
        spec: the model.
        engine: "vllm" or "transformers".
        devices: GPUs one model is split over.
        in_flight: requests in flight.
        gpus: bytes of each GPU; empty where there is none.

    Raises:
        UserError: the model cannot fit. Nothing is refused where its shape is not known.

    Returns:
        Share of each GPU that vLLM may take.
    """
    if not gpus or engine == "transformers":
        check_fit(spec, gpus)
        return GPU_SHARE
    shape = shape_of(spec)
    if shape is None:
        return GPU_SHARE
    wanted = plan(spec, shape, devices, in_flight)
    if devices > len(gpus):
        raise UserError(
            f"{spec.key} is to be split over {devices} GPUs, and there are {len(gpus)}",
            f"1 to {len(gpus)}",
            f"--tensor-parallel {len(gpus)}",
        )
    smallest = min(gpus[:devices])
    if wanted.least > smallest:
        raise too_large(spec, f"at least {gib(wanted.least)}", "each GPU", smallest, devices)
    return wanted.share(smallest)
