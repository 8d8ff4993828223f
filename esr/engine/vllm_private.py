"""Every private interface of vLLM that the worker and its hooks stand on, in one list.

vLLM may change any of them in any version: the version is pinned, a test
(``tests/engine/test_vllm_private.py``) names what a new one lacks, and a worker that does not find
one stops with one line. Both model runners are listed, though the second needs a GPU: its source
must do.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import vllm


@dataclass(frozen=True)
class Interface:
    """Something of vLLM.

    Attributes:
        module: where it is.
        owner: class or function in it.
        names: attributes, fields or parameters of the owner; none where it alone is needed.
        use: what for.
    """

    module: str
    owner: str
    names: tuple[str, ...]
    use: str


_V1, _V2 = "vllm.v1.worker.gpu_model_runner", "vllm.v1.worker.gpu.model_runner"

INTERFACES = (
    Interface(
        "vllm.v1.worker.gpu_worker",
        "Worker",
        ("load_model", "rank", "use_v2_model_runner", "model_runner"),
        "the worker we subclass, on GPUs",
    ),
    Interface("vllm.v1.worker.cpu_worker", "CPUWorker", ("load_model",), "the same on CPUs"),
    Interface(
        _V1,
        "GPUModelRunner",
        (
            "execute_model",
            "_prepare_inputs",
            "sample_tokens",
            "get_model",
            "input_batch",
            "discard_request_mask",
            "device",
        ),
        "requests that come and go, and the rows of a step",
    ),
    Interface(
        "vllm.v1.worker.gpu_input_batch",
        "InputBatch",
        ("req_ids", "num_computed_tokens_cpu", "generators", "num_reqs"),
        "whose rows they are, and at which position",
    ),
    Interface(_V2, "GPUModelRunner", ("execute_model", "prepare_inputs", "device"), "the same"),
    Interface(_V2, "GPUModelRunner.execute_model", ("dummy_run",), "steps that are no requests"),
    Interface(_V2, "InputBatch", ("req_ids", "num_computed_tokens_np"), "the same"),
    Interface(
        "vllm.v1.core.sched.output",
        "SchedulerOutput",
        ("finished_req_ids", "scheduled_new_reqs", "num_scheduled_tokens"),
        "requests that come and go",
    ),
    Interface(
        "vllm.v1.core.sched.output",
        "NewRequestData",
        ("req_id", "sampling_params"),
        "what a request asks for",
    ),
    Interface(
        "vllm.config",
        "CompilationConfig",
        ("_attention_ops", "splitting_ops", "cudagraph_mode", "max_cudagraph_capture_size"),
        "where graphs are cut, and how large they are",
    ),
    Interface(
        "vllm.config",
        "ParallelConfig",
        ("pipeline_parallel_size", "tensor_parallel_size"),
        "what is refused",
    ),
    Interface("vllm.config", "VllmConfig", ("speculative_config",), "what is refused"),
    Interface(
        "vllm.model_executor.layers.fused_moe.config",
        "FusedMoEConfig",
        ("skip_final_all_reduce",),
        "what is refused",
    ),
    Interface(
        "vllm.utils.torch_utils",
        "direct_register_custom_op",
        ("mutates_args", "fake_impl", "target_lib"),
        "the operator that the hooks call",
    ),
    Interface(
        "vllm.compilation.breakable_cudagraph",
        "eager_break_during_capture",
        (),
        "the operator outside of breakable graphs",
    ),
    Interface(
        "vllm.v1.engine.async_llm",
        "AsyncLLM",
        ("from_engine_args", "generate", "collective_rpc", "shutdown", "vllm_config"),
        "an engine in its own process",
    ),
    Interface(
        "vllm.v1.engine.llm_engine",
        "LLMEngine",
        (
            "from_engine_args",
            "add_request",
            "abort_request",
            "collective_rpc",
            "step",
            "has_unfinished_requests",
            "engine_core",
        ),
        "an engine in this process",
    ),
    Interface("vllm.v1.engine.exceptions", "EngineDeadError", (), "an engine that has ended"),
)


def missing(interfaces: Iterable[Interface] = INTERFACES) -> list[str]:
    """What the installed vLLM does not have, by name and use."""
    lines = []
    for interface in interfaces:
        where = f"{interface.module}.{interface.owner}"
        try:
            owner: Any = importlib.import_module(interface.module)
            for part in interface.owner.split("."):
                owner = getattr(owner, part)
        except (ImportError, AttributeError):
            lines.append(f"{where}: {interface.use}")
            continue
        lines += [
            f"{where}.{name}: {interface.use}" for name in interface.names if not _has(owner, name)
        ]
    return lines


def _has(owner: Any, name: str) -> bool:
    """As an attribute, a field, a parameter, or one that the class sets on itself."""
    if not isinstance(owner, type):
        return name in inspect.signature(owner).parameters
    if hasattr(owner, name):
        return True
    if dataclasses.is_dataclass(owner) and name in {f.name for f in dataclasses.fields(owner)}:
        return True
    classes = (each for each in owner.__mro__ if each.__module__.startswith("vllm"))
    return any(f"self.{name}" in inspect.getsource(each) for each in classes)


def needed(owner: Any, name: str) -> Callable[..., Any]:
    """A private attribute of vLLM, while the worker starts.

    Raises:
        RuntimeError: this version of vLLM does not have it.
    """
    if not hasattr(owner, name):
        raise RuntimeError(
            f"vLLM {vllm.__version__} has no {type(owner).__name__}.{name}: "
            "install the version pinned in the requirements file"
        )
    attribute: Callable[..., Any] = getattr(owner, name)
    return attribute
