"""How vLLM is to run; torch-free, so that a command line can say it before anything loads."""

from __future__ import annotations

from dataclasses import dataclass

from esr.engine.base import Pairing
from esr.engine.memory import GPU_SHARE

CLIENT = "ESR_CLIENT"
"""Environment variable with the process id of the client, whose end ends the engine."""

CPU_CACHE = 4 * 2**30
"""Most bytes of key-value cache on CPUs, unless asked for."""


@dataclass(frozen=True)
class VllmOptions:
    """How vLLM runs. Nothing here changes what is computed, except a faulty ``pairing``.

    Attributes:
        max_in_flight: most requests in one batch.
        pairing: "scheduler-order" reproduces the fault of the authors' fork (DEVIATIONS.md).
        tensor_parallel: ranks the model is split over.
        compiled: torch.compile and, on GPUs, CUDA graphs; None: on GPUs only.
        prefix_caching: reuse the cache of a common prefix among requests with the same
            interventions; steered and unsteered requests never share.
        max_batched_tokens: most tokens of one step; longer prompts are fed in chunks. None:
            8192, at least a full context.
        kv_cache_bytes: size of the key-value cache. None: on GPUs what ``gpu_memory`` leaves,
            on CPUs what ``max_in_flight`` full contexts need, at most :data:`CPU_CACHE` and half
            the free memory.
        gpu_memory: share of each GPU's memory vLLM may take.
        in_process: no process of its own, see :class:`esr.engine.vllm_driver.InProcess`.
        in_graph: whether steering is inside CUDA graphs, which then span the whole model; None:
            wherever the model is compiled for GPUs. Else graphs are cut at hooked layers.
        layers: more layers that interventions may name, beside the model's steering and feature
            layer, which they always may.
        load_format: "dummy" makes random weights on the device, for benchmarks of a shape.
    """

    max_in_flight: int = 64
    pairing: Pairing = "request-id"
    tensor_parallel: int = 1
    compiled: bool | None = None
    prefix_caching: bool = True
    max_batched_tokens: int | None = None
    kv_cache_bytes: int | None = None
    gpu_memory: float = GPU_SHARE
    in_process: bool = False
    load_format: str = "auto"
    layers: tuple[int, ...] = ()
    in_graph: bool | None = None
