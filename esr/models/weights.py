"""The weights of a model: what they take, whether they fit, and loading them with Hugging Face."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.errors import UserError
from esr.models.spec import ModelShape, ModelSpec
from esr.runs import hub
from esr.steering.layers import check_layer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

GIB = 2**30

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Of one number."""

_QUANTISED = {"fp8": 1.0, "mxfp8": 1.0, "mxfp4": 0.5}


def gib(size: float) -> str:
    """For messages: ``7.25 GiB``."""
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
    width = BYTES[spec.dtype]
    scheme = spec.quantization.partition("_")[0] if quantised else ""
    linear = shape.linear(spec.d_model) * _QUANTISED.get(scheme, width)
    return round(linear) + shape.embedding(spec.d_model) * width


def check_fit(spec: ModelSpec, gpus: Sequence[int]) -> None:
    """Refuse weights, unquantised, that fit neither the first GPU nor main memory without one.

    Args:
        spec: the model; nothing is refused where its shape is not known.
        gpus: bytes of each GPU.

    Raises:
        UserError: they do not fit.
    """
    shape = shape_of(spec)
    if shape is None:
        return
    memory, where = (gpus[0], "the GPU") if gpus else (main_memory(), "a machine without GPU")
    needed = weight_bytes(spec, shape, quantised=False)
    if needed > memory:
        raise too_large(spec, f"weights of {gib(needed)}", where, memory)


def splits(shape: ModelShape, devices: int) -> bool:
    """Whether vLLM can split the heads over so many GPUs."""
    kv_heads = shape.kv_heads
    # Key and value heads are copied where there are fewer of them than GPUs.
    return shape.heads % devices == 0 and max(devices, kv_heads) % min(devices, kv_heads) == 0


def check_split(spec: ModelSpec, devices: int) -> None:
    """Refuse a number of GPUs over which vLLM cannot split the model's heads.

    Args:
        spec: the model; nothing is refused where its shape is not known.
        devices: GPUs of one engine.

    Raises:
        UserError: names the numbers that go.
    """
    shape = shape_of(spec)
    if shape is None:
        return
    if not splits(shape, devices):
        possible = [n for n in range(1, shape.heads + 1) if splits(shape, n)]
        smaller = max(n for n in possible if n < devices)
        raise UserError(
            f"{spec.key} cannot be split over {devices} GPUs: it has {shape.heads} attention "
            f"heads, {shape.kv_heads} of keys and values",
            ", ".join(map(str, possible)),
            f"--tensor-parallel {smaller}",
        )


def too_large(spec: ModelSpec, needed: str, where: str, memory: int, devices: int = 1) -> UserError:
    """One line for a model that does not fit."""
    split = f" when split over {devices}" if devices > 1 else ""
    return UserError(
        f"{spec.key} needs {needed} on {where}{split}, which has {gib(memory)}",
        "a model that fits",
        "more or larger GPUs (--tensor-parallel N), or a smaller model",
    )


def main_memory() -> int:
    """Bytes of main memory that are available."""
    import psutil

    return int(psutil.virtual_memory().available)


def gpu_memory() -> list[int]:
    """Bytes of each GPU that PyTorch sees."""
    import torch

    devices = range(torch.cuda.device_count())
    return [int(torch.cuda.get_device_properties(i).total_memory) for i in devices]


def is_local(spec: ModelSpec) -> bool:
    """Whether ``hf_id`` names a folder, which may be missing, and no repository of the hub."""
    return spec.hf_id.startswith((".", "/")) or Path(spec.hf_id).is_dir()


def require_files(spec: ModelSpec) -> None:
    """Refuse a model that is neither on this machine nor on the hub, before a library tries.

    Raises:
        UserError: one line that says which.
    """
    if not is_local(spec):
        hub.require(spec.hf_id, spec.revision)
        return
    folder = Path(spec.hf_id)
    if not (folder / "config.json").is_file():
        fault = "has no config.json" if folder.is_dir() else "does not exist"
        raise UserError(
            f"model folder {folder} {fault}",
            "a folder that save_pretrained of transformers has written",
            "correct hf_id; for the organism: python -m esr.organism build",
        )


def load_tokenizer(spec: ModelSpec) -> Any:
    """The model's tokenizer.

    Raises:
        UserError: no such model, or it has none that loads.
    """
    from transformers import AutoTokenizer

    require_files(spec)
    try:
        return AutoTokenizer.from_pretrained(spec.hf_id, revision=spec.revision)
    # A faulty file can raise anything: the tokenizers library has exceptions of its own.
    except Exception as error:
        raise cannot_load(spec, error, "tokenizer of model") from error


def load_config(spec: ModelSpec) -> PreTrainedConfig:
    """The text part of the model's Hugging Face configuration.

    Raises:
        UserError: no such model.
    """
    from transformers import AutoConfig

    require_files(spec)
    try:
        return AutoConfig.from_pretrained(spec.hf_id, revision=spec.revision).get_text_config()
    except (OSError, ValueError) as error:
        raise cannot_load(spec, error) from error


def check_layers(spec: ModelSpec, config: PreTrainedConfig, width: int) -> None:
    """Refuse layers that the model does not have, and a dictionary of another width.

    Args:
        spec: the model.
        config: of its folder.
        width: ``d_model`` of the dictionary.

    Raises:
        UserError: one of these.
    """
    n_layers = int(config.num_hidden_layers)
    check_layer("steering layer", spec.steering_layer, n_layers)
    check_layer("feature layer", spec.feature_layer, n_layers)
    if int(config.hidden_size) != width:
        raise UserError(
            f"the SAE has width {width}, the model {config.hidden_size}",
            "an SAE trained on this model",
            "correct the SAE of the model's entry",
        )


def load_weights(spec: ModelSpec, device: torch.device) -> Any:
    """The model as Hugging Face loads it, for inference, in its own precision.

    Raises:
        UserError: it does not load.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        # "eager" because other attention kernels leave out Gemma's soft-capping.
        model = AutoModelForCausalLM.from_pretrained(
            spec.hf_id,
            revision=spec.revision,
            dtype=getattr(torch, spec.dtype),
            attn_implementation="eager",
        )
        return model.to(device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise cannot_load(spec, error) from error


def cannot_load(spec: ModelSpec, reason: object, what: str = "model") -> UserError:
    """One line for a model that does not load, whatever the library said about it."""
    detail = " ".join(str(reason).split())[:400] or type(reason).__name__
    gated = "gated" in detail or "401" in detail or "403" in detail
    return UserError(
        f"{what} {spec.hf_id} cannot be loaded: {detail}",
        "a local folder, or a Hugging Face id you have access to",
        hub.LOGIN if gated else "python -m esr.models check FILE.toml, for a model of your own",
    )
