"""How vLLM is started for us: its arguments, its environment, and what a failed start says."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from esr.engine.log import output_to, root_cause
from esr.engine.memory import step_tokens
from esr.engine.options import CLIENT, CPU_CACHE, VllmOptions
from esr.engine.validation import ModelInfo
from esr.engine.vllm_driver import Driver, InProcess, OwnProcess
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.weights import cannot_load
from esr.steering.limits import GRAPH_LINES
from esr.steering.sae import Dictionary
from esr.steering.task import CONFIG_KEY

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs

SET_BY_USER = frozenset(os.environ)
"""Environment variables that were there before we set any."""

HOOK = 3
"""Version of our operator's signature and place: a compiled graph kept from another is not loaded.
Raise it with every change of :data:`esr.engine.vllm_worker.TOUCH`."""

CPU_BLOCK = 32
"""Tokens per cache block on CPUs: what a common prefix is shared in."""


def start(
    spec: ModelSpec,
    info: ModelInfo,
    dictionary: Dictionary,
    options: VllmOptions,
    log: Path,
) -> Driver:
    """Start vLLM with our worker. Its output goes to ``log``.

    Raises:
        UserError: the model does not load, or the memory does not suffice.
    """
    # Somebody who asks for vLLM's messages gets them on the terminal.
    quiet = "VLLM_LOGGING_LEVEL" not in SET_BY_USER
    _environment(options)
    driver = InProcess if options.in_process else OwnProcess
    with output_to(log) if quiet else contextlib.nullcontext():
        try:
            return driver(engine_args(spec, info, dictionary, options))
        except Exception as error:
            reason = root_cause(log) or f"{type(error).__name__}: {error}"
            raise _start_failed(spec, reason, log) from error


def engine_args(
    spec: ModelSpec,
    info: ModelInfo,
    dictionary: Dictionary,
    options: VllmOptions,
) -> AsyncEngineArgs:
    """vLLM's arguments."""
    from vllm import AsyncEngineArgs

    context = info.context + 1  # See model_info: room for the token a read asks for.
    return AsyncEngineArgs(
        model=spec.hf_id,
        revision=spec.revision,
        dtype=spec.dtype,
        quantization=spec.quantization or None,
        max_model_len=context,
        max_num_seqs=options.max_in_flight,
        max_num_batched_tokens=options.max_batched_tokens or step_tokens(context),
        enable_chunked_prefill=True,
        # Under the faulty pairing nobody knows which interventions a cached token got, and with
        # recurrent layers vLLM 0.32 ends in an IndexError.
        enable_prefix_caching=options.prefix_caching
        and options.pairing == "request-id"
        and not _recurrent(info),
        tensor_parallel_size=options.tensor_parallel,
        load_format=options.load_format,
        # Left to itself, vLLM inside a Ray actor asks Ray for GPUs that the actor already holds.
        distributed_executor_backend="mp" if options.tensor_parallel > 1 else "uni",
        gpu_memory_utilization=options.gpu_memory,
        kv_cache_memory_bytes=_kv_cache_bytes(spec, info, options),
        block_size=CPU_BLOCK if on_cpu() else None,
        enforce_eager=not compiles(options),
        compilation_config=_compilation(options),
        worker_cls="esr.engine.vllm_worker.SteeringWorker",
        # Part of the key of vLLM's compile cache: a graph without our hook is never loaded.
        additional_config={
            CONFIG_KEY: {
                "rows": str(dictionary.path.resolve()),
                "hook": HOOK,
                "pairing": options.pairing,
                "in_graph": in_graph(options),
                "lines": graph_lines(options),
                "layers": list(info.layers),
                "feature_layer": spec.feature_layer,
            }
        },
        generation_config="vllm",
        skip_tokenizer_init=True,
        disable_log_stats=True,
        use_tqdm_on_load=False,
    )


def on_cpu() -> bool:
    """Whether the installed vLLM runs on the CPU."""
    from vllm.platforms import current_platform

    return bool(current_platform.is_cpu())


def compiles(options: VllmOptions) -> bool:
    """Whether the model is compiled."""
    return not on_cpu() if options.compiled is None else options.compiled


def in_graph(options: VllmOptions) -> bool:
    """Whether steering is inside CUDA graphs, or built as if it were."""
    if options.in_graph is None:
        return compiles(options) and not on_cpu()
    return options.in_graph


def graph_lines(options: VllmOptions) -> int:
    """Lines of a layer's table inside CUDA graphs."""
    return GRAPH_LINES * max(64, options.max_in_flight)


def _recurrent(info: ModelInfo) -> bool:
    """Whether some layers carry a state from token to token instead of attending."""
    names = ("layer_types", "layers_block_type")
    kinds = next((k for k in (getattr(info.config, name, None) for name in names) if k), ())
    return any("attention" not in kind or kind.startswith("linear") for kind in kinds)


def _compilation(options: VllmOptions) -> dict[str, Any]:
    if on_cpu() or not compiles(options) or in_graph(options):
        return {}
    from vllm.config import CompilationConfig

    # This hook is Python and differs from step to step, so it must stay outside of CUDA graphs:
    # graphs are cut at it, and no graph spans the whole model. Naming one cut means naming all,
    # so vLLM's own come with it, and the fusions that would need them inside a graph are off.
    cuts = [
        *CompilationConfig._attention_ops,
        "vllm::unified_kv_cache_update",
        "vllm::unified_mla_kv_cache_update",
        "esr::touch",
    ]
    fusions = ("fuse_attn_quant", "fuse_rope_kvcache", "fuse_qk_norm_rope_kvcache")
    return {
        "cudagraph_mode": "PIECEWISE",
        "splitting_ops": cuts,
        "pass_config": dict.fromkeys(fusions, False),
    }


def _kv_cache_bytes(spec: ModelSpec, info: ModelInfo, options: VllmOptions) -> int | None:
    if options.kv_cache_bytes is not None or not on_cpu():
        return options.kv_cache_bytes
    import psutil

    config = info.config
    heads = int(getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or 0)
    width = width or int(config.hidden_size) // int(config.num_attention_heads)
    element = torch.empty(0, dtype=getattr(torch, spec.dtype)).element_size()
    blocks = (math.ceil((info.context + 1) / CPU_BLOCK) + 1) * options.max_in_flight
    needed = 2 * info.n_layers * heads * width * element * CPU_BLOCK * blocks
    per_rank = math.ceil(needed / options.tensor_parallel)
    free = psutil.virtual_memory().available // (2 * options.tensor_parallel)
    return int(min(max(per_rank, 2**24), CPU_CACHE, free))


def _environment(options: VllmOptions) -> None:
    """vLLM is told much by environment variables; those the user has set stay."""
    os.environ[CLIENT] = str(os.getpid())
    values: dict[str, str | None] = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": _cores_of_ranks(options),
        # The V2 runner sorts its rows by scheduling order; the fault needs V1's refilled rows.
        "VLLM_USE_V2_MODEL_RUNNER": "0" if options.pairing == "scheduler-order" else None,
    }
    for name, value in values.items():
        if name in SET_BY_USER:
            continue
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _cores_of_ranks(options: VllmOptions) -> str | None:
    """Which cores each rank of a CPU engine is bound to; None leaves it to vLLM."""
    if options.in_process:
        # Else the calling process, its other threads included, is bound to some of its cores.
        return "nobind"
    if options.tensor_parallel == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // options.tensor_parallel)
    groups = [cores[i * share : (i + 1) * share] for i in range(options.tensor_parallel)]
    return "|".join(",".join(map(str, group or cores)) for group in groups)


def _start_failed(spec: ModelSpec, reason: str, log: Path) -> UserError:
    """What a failed start says: our own refusal, too little memory, no weights, or vLLM's reason.

    Configuration and tokenizer were read before, so a model that is not there is rare.
    """
    ours = reason.partition("UserError: ")[2]
    if ours:
        return UserError(ours)
    reason = f"{' '.join(reason.split())[:400]} (details in {log})"
    lower = reason.lower()
    if "memory" in lower:
        return UserError(
            f"not enough memory for {spec.key}: {reason}",
            "weights, key-value cache and SAE rows must fit",
            "use more GPUs (tensor parallelism), fewer requests in flight, or a smaller model",
        )
    if any(word in lower for word in ("weights", "repository", "gated", "safetensors")):
        return cannot_load(spec, reason)
    return UserError(
        f"vLLM does not start with {spec.key}: {reason}",
        "the models of docs/models.md, and options that vLLM has for them",
        "--engine transformers, which needs no vLLM, or another model",
    )
