"""Engines: what generates steered text and reads latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esr.engine.options import VllmOptions
from esr.errors import UserError

if TYPE_CHECKING:
    from esr.engine.base import Engine
    from esr.models import ModelSpec
    from esr.steering.sae import Dictionary

__all__ = ["ENGINES", "VllmOptions", "create"]

ENGINES = ("vllm", "transformers")


def create(
    name: str, spec: ModelSpec, dictionary: Dictionary, options: VllmOptions | None = None
) -> Engine:
    """Start an engine; nothing heavy is imported before this call.

    Args:
        name: "vllm", or "transformers", the reference: one request at a time.
        spec: the model, with the layers that steer and read.
        dictionary: the SAE that steers and reads.
        options: how vLLM runs; of these the reference takes pairing and layers alone.

    Raises:
        UserError: unknown engine, a model that does not load or fit, a faulty option.
    """
    options = options or VllmOptions()
    if name == "transformers":
        from esr.engine.transformers import TransformersEngine

        if options.pairing != "request-id":
            raise UserError(
                f"the transformers engine has no pairing {options.pairing!r}",
                "request-id; its requests never share a batch",
                "--engine vllm",
            )
        return TransformersEngine(spec, dictionary, options.layers)
    if name == "vllm":
        from esr.engine.vllm import VllmEngine

        return VllmEngine(spec, dictionary, options)
    raise UserError(f"unknown engine {name!r}", ", ".join(ENGINES), "--engine vllm")
