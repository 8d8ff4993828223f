"""Random-weight Llama models and dictionaries of given shapes: speed needs no trained weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from esr.models import Calibration, ModelSpec, SaeSource
from esr.models.spec import Dtype
from esr.steering.sae import Dictionary, write_rows


@dataclass(frozen=True)
class Shape:
    """A Llama architecture.

    Attributes:
        d_sae: latents of the dictionary that goes with it.
        quantization: vLLM's on-the-fly scheme.
        written: False where only the configuration is written, because the weights would fill
            the disk; vLLM then makes random ones on the device (``load_format="dummy"``).
    """

    layers: int
    width: int
    hidden: int
    heads: int
    key_heads: int
    vocabulary: int
    d_sae: int
    dtype: Dtype
    quantization: str = ""
    written: bool = True


SHAPES: Mapping[str, Shape] = {
    "tiny": Shape(6, 128, 384, 4, 4, 2048, 768, "float32"),
    "152m": Shape(16, 768, 2048, 12, 4, 32000, 16384, "float32"),
    "8b-shape": Shape(32, 4096, 14336, 32, 8, 128256, 65536, "bfloat16"),
    "70b-shape": Shape(
        *(80, 8192, 28672, 64, 8, 128256, 65536),
        dtype="bfloat16",
        quantization="fp8_per_tensor",
        written=False,
    ),
}


def build(name: str, folder: Path) -> tuple[ModelSpec, Dictionary]:
    """Write a random model of a named shape, its tokenizer and a dictionary into ``folder``."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shape = SHAPES[name]
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.width,
        intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        head_dim=shape.width // shape.heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
    )
    if shape.written:
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).to(getattr(torch, shape.dtype))
        model.save_pretrained(folder / "model")
    else:
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder / "model")
    words = {f"w{i}": i for i in range(shape.vocabulary)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="w2").save_pretrained(
        folder / "model"
    )
    return _spec(name, shape, folder), _dictionary(shape, folder)


def _spec(name: str, shape: Shape, folder: Path) -> ModelSpec:
    return ModelSpec(
        key=f"random-{name}",
        title=f"random weights, {name}",
        hf_id=str(folder / "model"),
        sae=SaeSource(),
        steering_layer=shape.layers // 2,
        feature_layer=shape.layers // 2 + 1,
        d_model=shape.width,
        d_sae=shape.d_sae,
        calibration=Calibration(1, 1, 1.0, 1.0, 0.0, 1.0),
        context=1024,
        dtype=shape.dtype,
        quantization=shape.quantization,
    )


def _dictionary(shape: Shape, folder: Path) -> Dictionary:
    decoder = torch.randn(shape.d_sae, shape.width, generator=torch.Generator().manual_seed(1))
    decoder /= decoder.norm(dim=1, keepdim=True)
    return write_rows(
        folder / "rows.safetensors",
        encoder=decoder.clone(),
        encoder_bias=torch.zeros(shape.d_sae),
        threshold=torch.zeros(shape.d_sae),
        decoder=decoder,
        input_bias=torch.zeros(shape.width),
    )
