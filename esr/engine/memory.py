"""The memory plan: what a model, its key-value cache and its SAE rows need, before anything loads.

Sizes follow from the model's shape alone, so the plan needs no GPU and no download. It is shown
by ``--dry-run`` and checked against the machine before the engine starts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from esr.errors import UserError
from esr.models.spec import ModelShape, ModelSpec
from esr.steering.limits import ENCODER_BLOCK, KEEP, WORKSPACE

GIB = 2**30

GPU_SHARE = 0.9
"""Largest share of each GPU that vLLM takes. What we add must fit into the rest, because vLLM
measures its peak with our hooks at rest."""

STEP_TOKENS = 8192
"""Most tokens of one step, as vLLM is started on GPUs."""

CUDA_CONTEXT = GIB
"""Driver, kernels and communication buffers: an assumption."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_QUANTISED = {"fp8": 1.0, "mxfp8": 1.0, "mxfp4": 0.5}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on each device.

    Attributes:
        devices: GPUs (ranks) one model is split over.
        weights: of this rank.
        one_response: key-value cache of one full context: the least vLLM starts with.
        all_responses: of all requests in flight, prompts of 128 tokens assumed.
        activations: of the largest step, vLLM's own: an estimate.
        sae_rows: encoder and decoder rows of the latents kept on the device, float32, on every
            rank.
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
            f"memory of {each}, at least {_gib(self.least)}:",
            f"  weights {_gib(self.weights)}, activations {_gib(self.activations)}, key-value "
            f"cache {_gib(self.one_response)} for one full context, {_gib(self.all_responses)} "
            "for all requests in flight",
            f"  SAE rows {_gib(self.sae_rows)} for the latents in play, steering "
            f"{_gib(self.steering)}, pooled reads {_gib(self.pooled_reads)}",
            f"  on disk: SAE rows {_gib(self.dictionary_file)}, read as needed",
        ]


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size < 10 * GIB else f"{size / GIB:.1f} GiB"


def shape_of(spec: ModelSpec) -> ModelShape | None:
    """The shape of a model: declared, or read from its local folder; None where unknown."""
    if spec.shape is not None:
        return spec.shape
    file = Path(spec.hf_id) / "config.json"
    if not file.is_file():
        return None
    try:
        return shape_from_config(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError):
        return None


def shape_from_config(config: dict[str, object]) -> ModelShape:
    """The shape in a Hugging Face ``config.json``.

    Raises:
        KeyError: it is not the configuration of a decoder stack with gated blocks.
    """

    def number(name: str, default: int | None = None) -> int:
        value = config.get(name) or default
        if value is None:
            raise KeyError(name)
        return int(str(value))

    heads = number("num_attention_heads")
    return ModelShape(
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", number("hidden_size") // heads),
        ffn=number("intermediate_size"),
        vocabulary=number("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def weight_bytes(spec: ModelSpec, shape: ModelShape, *, quantised: bool = True) -> int:
    """Bytes of all weights; quantisation leaves embedding and output matrix as they are."""
    width = _BYTES.get(spec.dtype, 2)
    scheme = spec.quantization.partition("_")[0] if quantised else ""
    linear = shape.linear(spec.d_model) * _QUANTISED.get(scheme, width)
    return round(linear) + shape.embedding(spec.d_model) * width


def plan(spec: ModelSpec, shape: ModelShape, devices: int = 1, in_flight: int = 64) -> MemoryPlan:
    """The memory plan of a model on vLLM, split over ``devices``."""
    width = _BYTES.get(spec.dtype, 2)
    heads = math.ceil(shape.kv_heads / devices)
    per_token = 2 * shape.layers * heads * shape.head_dim * width
    row = 4 * spec.d_model
    context = spec.context + 1
    # Per token of the step: both halves of the gated block, and a few widths of the stream.
    per_activation = width * (2 * shape.ffn // devices + 4 * spec.d_model)
    latents = min(KEEP, spec.d_sae)
    return MemoryPlan(
        devices=devices,
        weights=math.ceil(weight_bytes(spec, shape) / devices),
        one_response=per_token * context,
        all_responses=per_token * in_flight * min(context, spec.max_tokens + 128),
        activations=STEP_TOKENS * per_activation,
        sae_rows=2 * latents * row,
        # The stream in float32, its change, a gathered row and two products.
        steering=5 * STEP_TOKENS * row,
        pooled_reads=_pooled_reads(spec, in_flight),
        dictionary_file=2 * spec.d_sae * row,
    )


def _pooled_reads(spec: ModelSpec, in_flight: int) -> int:
    """Encoder block, residual rows, three activation tables, three numbers per latent and read."""
    block = min(ENCODER_BLOCK, 4 * spec.d_sae * spec.d_model)
    residual = 2 * 4 * STEP_TOKENS * spec.d_model
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
    shape = shape_of(spec)
    if shape is None:
        return GPU_SHARE
    if not gpus or engine == "transformers":
        have, where = (gpus[0], "the GPU") if gpus else (_main_memory(), "a machine without GPU")
        need = weight_bytes(spec, shape, quantised=engine == "vllm" and bool(gpus))
        if need > have:
            raise _too_large(spec, f"weights of {_gib(need)}", where, have, devices=1)
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
        raise _too_large(spec, f"at least {_gib(wanted.least)}", "each GPU", smallest, devices)
    return wanted.share(smallest)


def _main_memory() -> int:
    """Bytes of main memory that are available."""
    import psutil

    return int(psutil.virtual_memory().available)


def _too_large(spec: ModelSpec, need: str, where: str, have: int, devices: int) -> UserError:
    return UserError(
        f"{spec.key} needs {need} on {where}"
        + (f" when split over {devices}" if devices > 1 else "")
        + f", which has {_gib(have)}",
        "a model that fits",
        "more or larger GPUs (--tensor-parallel N), or a smaller model",
    )
