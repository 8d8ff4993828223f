"""Small random models, dictionaries and mixed requests for the engine tests."""

from __future__ import annotations

import random
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from esr.engine.base import GenerationRequest, Sampling
from esr.models import Calibration, ModelSpec, SaeSource
from esr.steering.directions import Direction, Fit
from esr.steering.interventions import Boost, Clamp, Intervention, Row, Scale, Slot
from esr.steering.sae import Dictionary, write_rows

VOCABULARY = 320
CONTEXT = 160
D_MODEL = 64
D_SAE = 300
LAYERS = 4
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "intermediate_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}


def build_model(folder: Path, family: str) -> ModelSpec:
    """Write a random float32 model with its tokenizer; the same bytes every time."""
    torch.manual_seed(7)
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**COMMON))
    else:
        # The window is shorter than the texts, so that sliding-window layers differ.
        # vLLM ties Gemma's embeddings whatever the configuration says.
        options = {**COMMON, "tie_word_embeddings": True}
        config = Gemma2Config(**options, sliding_window=48, query_pre_attn_scalar=32)
        model = Gemma2ForCausalLM(config)
    # Wide weights make sharp distributions: greedy tokens vary and ties are rare. Gemma's tied
    # embedding stays small, or every token would predict itself.
    embedding = 1.0 if family == "llama" else 0.15
    for name, weight in model.named_parameters():
        if weight.dim() == 2:
            std = embedding if "embed" in name else weight.shape[1] ** -0.5
            torch.nn.init.normal_(weight, std=std)
        else:
            torch.nn.init.normal_(weight, mean=1.0, std=0.1)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return ModelSpec(
        key=family,
        title=family,
        hf_id=str(folder),
        sae=SaeSource(),
        steering_layer=1,
        feature_layer=2,
        d_model=D_MODEL,
        d_sae=D_SAE,
        calibration=Calibration(1, 1, 1.0, 1.0, 0.0, 1.0),
        context=CONTEXT,
        dtype="float32",
    )


def tokenizer() -> PreTrainedTokenizerFast:
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    words = special + [f"w{i}" for i in range(len(special), VOCABULARY)]
    words_only = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    words_only.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words_only,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def build_dictionary(path: Path, d_model: int = D_MODEL) -> Dictionary:
    """A random JumpReLU dictionary of which about a third of the latents is active per token."""
    make = torch.Generator().manual_seed(11)
    decoder = torch.randn(D_SAE, d_model, generator=make)
    decoder /= decoder.norm(dim=1, keepdim=True)
    return write_rows(
        path,
        encoder=decoder + 0.1 * torch.randn(D_SAE, d_model, generator=make),
        encoder_bias=0.1 * torch.randn(D_SAE, generator=make),
        threshold=torch.rand(D_SAE, generator=make) * (torch.arange(D_SAE) % 2),
        decoder=decoder,
        input_bias=0.1 * torch.randn(d_model, generator=make),
    )


def mixed_requests(
    n: int, seed: int = 0, max_tokens: int = 24, scale: float = 8.0, scope: str = "all"
) -> list[GenerationRequest]:
    """Greedy requests with none, one or several interventions and all kinds of lengths."""
    rng = random.Random(seed)
    requests = []
    for i in range(n):
        kinds: list[tuple[Intervention, ...]] = [
            (),
            (Boost(rng.randrange(D_SAE), scale * rng.uniform(0.5, 1.5)),),
            (Clamp(rng.randrange(D_SAE)), Clamp(rng.randrange(D_SAE), scale)),
            (
                Boost(5, scale),
                Clamp(5, 1.0),
                Boost(rng.randrange(D_SAE), -scale),
                Clamp(rng.randrange(100, D_SAE), 3.0),
            ),
            (Scale(rng.randrange(D_SAE), 4.0), Boost(rng.randrange(D_SAE), scale)),
        ]
        prompt = tuple(rng.randrange(4, VOCABULARY) for _ in range(rng.randint(3, 70)))
        requests.append(
            GenerationRequest(
                request_id=f"r{i}",
                prompt_token_ids=prompt,
                interventions=_without_doubles(kinds[i % len(kinds)]),
                sampling=Sampling(
                    temperature=0.0,
                    max_tokens=rng.randint(4, max_tokens),
                    repetition_penalty=rng.choice([1.0, 1.1]),
                ),
                scope=scope,
            )
        )
    return requests


def build_direction(d_model: int = D_MODEL) -> Direction:
    """Two random orthogonal vectors at layer 1; not stored."""
    make = torch.Generator().manual_seed(13)
    vectors = torch.linalg.qr(torch.randn(d_model, 2, generator=make))[0].T.contiguous()
    return Direction("random", vectors, (Fit(1), Fit(1, "second")), "random")


SCOPES = ("all", "prompt", "prefix", "generated", "after prefix", "until 3", "until 9")
MORE_LAYERS = (0, 3)
"""Layers that :func:`slot_requests` name beside the steering and the feature layer."""


def slot_requests(
    n: int, digest: str, seed: int = 0, max_tokens: int = 24, scale: float = 8.0
) -> list[GenerationRequest]:
    """Greedy requests with slots of every kind, layers, scopes and given prefixes."""
    rng = random.Random(seed)
    v, w = Row(0, digest), Row(1, digest)
    requests = []
    for i in range(n):
        k, scope = rng.randrange(D_SAE - 1), rng.choice(SCOPES)
        layer = rng.choice([None, *MORE_LAYERS])
        cos, sin = -0.5, 0.75**0.5
        kinds: list[tuple[Intervention, ...]] = [
            (Boost(k, scale, layer, scope), Boost(k, -scale, 3)),
            (Slot(v, boost=scale, layer=layer, scope=scope), Clamp(k, scale, layer)),
            (Slot(v, v, target=scale, gain=-1.0, high=0.5 * scale, layer=layer, scope=scope),),
            (
                Slot(v, v, target=-1.0, gain=-1.0, high=-1.0, layer=layer, scope=scope),
                Slot(v, v, target=0.2, gain=-1.0, low=0.2, layer=layer, scope=scope),
                Boost(k, 0.5 * scale, 0, "generated"),
            ),
            (
                Slot(v, v, gain=cos - 1, layer=layer),
                Slot(w, w, gain=cos - 1, layer=layer),
                Slot(w, v, gain=sin, layer=layer),
                Slot(v, w, gain=-sin, layer=layer),
            ),
            (
                Slot(Row(k), Row(k + 1), gain=scale, low=0.3, scope=scope),
                Clamp(k, scale, scope="prompt"),
                Clamp(k, scope="generated"),
                Scale(5, 3.0, 2),
            ),
            (),
        ]
        requests.append(
            GenerationRequest(
                request_id=f"s{i}",
                prompt_token_ids=tuple(rng.choices(range(4, VOCABULARY), k=rng.randint(3, 60))),
                interventions=kinds[i % len(kinds)],
                sampling=Sampling(0.0, 1.0, rng.randint(4, max_tokens), rng.choice([1.0, 1.1])),
                scope=rng.choice(["all", "all", "generated"]),
                prefix_token_ids=tuple(rng.choices(range(4, VOCABULARY), k=rng.choice([0, 1, 12]))),
            )
        )
    return requests


def _without_doubles(interventions: tuple[Intervention, ...]) -> tuple[Intervention, ...]:
    clamps: set[int] = set()
    kept: list[Intervention] = []
    for item in interventions:
        if isinstance(item, Clamp):
            if item.latent in clamps:
                continue
            clamps.add(item.latent)
        kept.append(item)
    return tuple(kept)
