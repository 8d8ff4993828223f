"""Random-weight Llama models and dictionaries of given shapes: speed needs no trained weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from esr import models
from esr.models import Calibration, ModelShape, ModelSpec, SaeSource
from esr.steering import sae
from esr.steering.sae import Dictionary, write_rows

if TYPE_CHECKING:
    from transformers import LlamaConfig


SHAPES = ("tiny", "152m", "8b-shape", "70b-shape")
"""What :func:`build` makes."""

CONFIG_ONLY = ("8b-shape", "70b-shape")
"""Their weights would fill the disk; vLLM makes random ones on the device (load_format="dummy")."""

PARITY = "parity"
"""A small one whose greedy tokens vary and rarely tie: its matrices are as wide as they are said
to be for unit variance. Biases and thresholds of its dictionary are not 0."""

LATENTS = 8192
"""Of a registered model's dictionary: what steers costs by the rows in play, not by their number
on disk."""


def _spec(name: str) -> ModelSpec:
    """A shape of its own, or that of a registered model."""
    if name in CONFIG_ONLY:
        spec = models.get(name.removesuffix("-shape"))
        return replace(spec, sae=SaeSource(), context=2048, d_sae=min(spec.d_sae, LATENTS))
    if name == PARITY:
        return replace(
            _spec("tiny"),
            key=name,
            title=name,
            d_model=256,
            d_sae=700,
            shape=ModelShape(5, 4, 2, 64, 512, 512),
        )
    wide = name == "152m"
    shape = ModelShape(16, 12, 4, 64, 2048, 32000) if wide else ModelShape(6, 4, 4, 32, 384, 2048)
    return ModelSpec(
        key=name,
        title=name,
        hf_id="",
        sae=SaeSource(),
        steering_layer=shape.layers // 2,
        feature_layer=shape.layers // 2 + 1,
        d_model=768 if wide else 128,
        d_sae=16384 if wide else 768,
        calibration=Calibration(1, 1, 1.0, 1.0, 0.0, 1.0),
        context=1024,
        dtype="float32",
        shape=shape,
    )


def llama_config(d_model: int, shape: ModelShape, **more: Any) -> LlamaConfig:
    """Hugging Face configuration of a Llama of this shape."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=d_model,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=4096,
        tie_word_embeddings=shape.tied,
        **more,
    )


def build(name: str, folder: Path) -> tuple[ModelSpec, Dictionary]:
    """Write a random model of a named shape, its tokenizer and a dictionary into ``folder``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    spec, target = _spec(name), folder / "model"
    assert spec.shape is not None
    config = llama_config(spec.d_model, spec.shape, architectures=["LlamaForCausalLM"])
    if name in CONFIG_ONLY:
        config.save_pretrained(target)
    else:
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        if name == PARITY:
            _widen(model)
        model.to(getattr(torch, spec.dtype)).save_pretrained(target)
    words = {f"w{i}": i for i in range(spec.shape.vocabulary)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w2").save_pretrained(target)
    title = f"random weights, {name}"
    return (
        replace(spec, key=f"random-{name}", title=title, hf_id=str(target)),
        _dictionary(spec, folder),
    )


def registered_or_random(key: str, folder: Path) -> tuple[ModelSpec, Dictionary]:
    """A registered model with its dictionary, or a random one of a shape that is none.

    Args:
        key: of the registry, or of :data:`SHAPES`.
        folder: for random weights.
    """
    if key in SHAPES and key not in models.REGISTRY:
        return build(key, folder / key)
    spec = models.get(key)
    return spec, sae.load(spec.sae)


def _widen(model: torch.nn.Module) -> None:
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            std = 1.0 if "embed" in name else weight.shape[1] ** -0.5
            torch.nn.init.normal_(weight, std=std)
        else:
            torch.nn.init.normal_(weight, mean=1.0, std=0.1)


def _dictionary(spec: ModelSpec, folder: Path) -> Dictionary:
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    decoder = noise(spec.d_sae, spec.d_model)
    decoder /= decoder.norm(dim=1, keepdim=True)
    parity = spec.key == PARITY
    return write_rows(
        folder / "rows.safetensors",
        encoder=decoder + 0.1 * noise(spec.d_sae, spec.d_model) if parity else decoder.clone(),
        encoder_bias=0.1 * noise(spec.d_sae) if parity else torch.zeros(spec.d_sae),
        threshold=noise(spec.d_sae).abs() if parity else torch.zeros(spec.d_sae),
        decoder=decoder,
        input_bias=0.1 * noise(spec.d_model) if parity else torch.zeros(spec.d_model),
    )
