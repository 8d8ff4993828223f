"""Engines: what generates steered text and reads latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from esr.engine.memory import GPU_SHARE
from esr.errors import UserError

if TYPE_CHECKING:
    from esr.engine.base import Engine, Pairing
    from esr.models import ModelSpec
    from esr.steering.sae import Dictionary

__all__ = ["ENGINES", "create", "replicate"]

ENGINES = ("vllm", "transformers")


def create(
    name: str,
    spec: ModelSpec,
    dictionary: Dictionary,
    *,
    max_in_flight: int = 64,
    pairing: Pairing = "request-id",
    steering_layer: int | None = None,
    feature_layer: int | None = None,
    tensor_parallel: int = 1,
    compiled: bool | None = None,
    in_process: bool = False,
    gpu_memory: float = GPU_SHARE,
) -> Engine:
    """Start an engine; nothing heavy is imported before this call.

    Args:
        name: "vllm", or "transformers", the reference: one request at a time.
        spec: the model.
        dictionary: the SAE that steers and reads.
        max_in_flight: most requests that share a batch; more of them wait.
        pairing: "scheduler-order" reproduces the fault of the authors' fork, vLLM only.
        steering_layer: instead of the model's, e.g. a profile's.
        feature_layer: instead of the model's.
        tensor_parallel: GPUs (CPU sockets) one model is split over, vLLM only.
        compiled: whether vLLM compiles the model; None: on GPUs only.
        in_process: run vLLM inside this process: starts in seconds, meant for tests.
        gpu_memory: share of each GPU that vLLM may take.

    Raises:
        UserError: unknown engine, a model that does not load or fit, a faulty option.
    """
    if name == "transformers":
        from esr.engine.transformers import TransformersEngine

        if pairing != "request-id":
            raise UserError(
                f"the transformers engine has no pairing {pairing!r}",
                "request-id; its requests never share a batch",
                "--engine vllm",
            )
        return TransformersEngine(
            spec, dictionary, steering_layer=steering_layer, feature_layer=feature_layer
        )
    if name == "vllm":
        from esr.engine.vllm import VllmEngine, VllmOptions

        options = VllmOptions(
            max_in_flight=max_in_flight,
            pairing=pairing,
            tensor_parallel=tensor_parallel,
            compiled=compiled,
            in_process=in_process,
            gpu_memory=gpu_memory,
        )
        return VllmEngine(
            spec,
            dictionary,
            options,
            steering_layer=steering_layer,
            feature_layer=feature_layer,
        )
    raise UserError(f"unknown engine {name!r}", ", ".join(ENGINES), "--engine vllm")


def replicate(
    make: Callable[[], Engine], *, replicas: int, gpus: int = 0, cpus: int = 1, in_flight: int = 64
) -> Engine:
    """Several engines as one: :class:`esr.engine.replicas.ReplicatedEngine`.

    Raises:
        UserError: Ray does not start, or resources do not suffice.
    """
    from esr.engine.replicas import ReplicatedEngine

    return ReplicatedEngine(make, replicas=replicas, gpus=gpus, cpus=cpus, in_flight=in_flight)
