"""The paper's five models without their weights: shapes, hooks, layers and prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from torch import Tensor
from torch.nn import Module
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from esr import models
from esr.models import ModelSpec
from esr.models.chat import ChatFormat
from esr.steering.layers import decoder_layers, residual_of, with_residual

FIXTURES = Path(__file__).parent / "fixtures" / "chat"

PUBLISHED = {
    "70b": 70_553_706_496,
    "8b": 8_030_261_248,
    "gemma-2b": 2_614_341_888,
    "gemma-9b": 9_241_705_984,
    "gemma-27b": 27_227_128_320,
}
"""Parameters of each model, as its page on huggingface.co states them."""


def config_of(spec: ModelSpec, *, tiny: bool = False) -> LlamaConfig | Gemma2Config:
    """The model's configuration; with ``tiny``, at its real depth but 32 wide."""
    shape = spec.shape
    assert shape is not None
    options: dict[str, Any] = {
        "vocab_size": 64 if tiny else shape.vocabulary,
        "hidden_size": 32 if tiny else spec.d_model,
        "intermediate_size": 48 if tiny else shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": 4 if tiny else shape.heads,
        "num_key_value_heads": 2 if tiny else shape.kv_heads,
        "head_dim": 8 if tiny else shape.head_dim,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "attn_implementation": "eager",
    }
    return (LlamaConfig if "Llama" in spec.title else Gemma2Config)(**options)


def model_of(config: LlamaConfig | Gemma2Config) -> Any:
    made = LlamaForCausalLM if isinstance(config, LlamaConfig) else Gemma2ForCausalLM
    return made(config).eval()


@pytest.mark.parametrize("key", PUBLISHED)
def test_real_widths_without_weights(key: str) -> None:
    """At full size on the meta device: the declared shape is the model's, and hooks fit it."""
    spec = models.get(key)
    assert spec.shape is not None
    with torch.device("meta"):
        model = model_of(config_of(spec))
    counted = sum(weight.numel() for weight in model.parameters())
    assert counted == PUBLISHED[key]
    assert spec.shape.parameters(spec.d_model) == pytest.approx(counted, rel=1e-4)

    layers = decoder_layers(model, spec.shape.layers)
    assert layers is model.model.layers
    seen: dict[int, torch.Size] = {}

    def watch(layer: int) -> Any:
        def hook(_module: Module, _args: object, output: Any) -> None:
            seen[layer] = residual_of(output).shape

        return hook

    wanted = {spec.steering_layer, spec.feature_layer}
    for layer in wanted:
        layers[layer].register_forward_hook(watch(layer))
    with torch.device("meta"), torch.no_grad():
        ones = torch.ones(1, 5, dtype=torch.int64)
        model(input_ids=ones, attention_mask=ones, use_cache=False)
    assert seen == dict.fromkeys(wanted, torch.Size([1, 5, spec.d_model]))


@pytest.mark.parametrize("key", PUBLISHED)
@torch.no_grad()
def test_layer_i_is_hidden_state_i_plus_1(key: str) -> None:
    """Real depth, small widths, real numbers: what is added at layer i arrives there and no
    earlier, undiminished, and is seen by the next layer."""
    torch.manual_seed(0)
    spec = models.get(key)
    assert spec.shape is not None
    model = model_of(config_of(spec, tiny=True))
    layers = decoder_layers(model, spec.shape.layers)
    ids = torch.arange(3, 12)[None]

    def states() -> tuple[Tensor, ...]:
        return tuple(model(input_ids=ids, use_cache=False, output_hidden_states=True).hidden_states)

    plain = states()
    assert len(plain) == spec.shape.layers + 1
    for layer in {spec.steering_layer, spec.feature_layer}:
        captured: list[Tensor] = []
        handle = layers[layer].register_forward_hook(
            lambda _m, _a, out, found=captured: found.append(residual_of(out))
        )
        states()
        handle.remove()
        assert torch.equal(captured[0], plain[layer + 1])

    layer, added = spec.steering_layer, torch.randn(32)
    received: list[Tensor] = []
    handles = [
        layers[layer].register_forward_hook(
            lambda _m, _a, out: with_residual(out, residual_of(out) + added)
        ),
        layers[layer + 1].register_forward_pre_hook(lambda _m, args: received.append(args[0])),
    ]
    steered = states()
    for handle in handles:
        handle.remove()
    for i in range(layer + 1):
        assert torch.equal(steered[i], plain[i])
    assert torch.equal(received[0], plain[layer + 1] + added)
    assert not torch.allclose(steered[layer + 2], plain[layer + 2])


def chat_of(fixture: dict[str, Any]) -> ChatFormat:
    """A tokenizer with a handful of the real ids; as the real ones do, it adds a BOS if asked."""
    vocabulary = fixture["vocabulary"]
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex(r"\n+| ?[^\s]+"), "isolated")
    special = [token for token in vocabulary if token.startswith("<")]
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=fixture["bos"],
        unk_token="<unk>",
        additional_special_tokens=special,
    )
    made.chat_template = fixture["template"]
    return ChatFormat(made)


@pytest.mark.parametrize("family", ["llama-3", "gemma-2"])
def test_token_ids_of_a_chat(family: str) -> None:
    """One user turn, no system prompt, one BOS, the generation prompt; and the release's quirk.

    The fixture holds the chat's published structure and token ids in a template of our own. It
    proves what we ask of a template and what we append; that a downloaded tokenizer's template
    agrees can only be seen where it has been downloaded.
    """
    fixture = json.loads((FIXTURES / f"{family}.json").read_text())
    chat = chat_of(fixture)
    assert list(chat.prompt_ids(fixture["prompt"])) == fixture["prompt_ids"]
    assert list(chat.user_turn_ids(fixture["prompt"])) == fixture["user_turn_ids"]
    turns = chat.conversation_ids(fixture["prompt"], fixture["response"])
    assert list(turns) == fixture["conversation_ids"]
    key = {"llama-3": "70b", "gemma-2": "gemma-2b"}[family]
    release = ChatFormat(chat.tokenizer, models.get(key).profile("release").chat_variant)
    assert list(release.prompt_ids(fixture["prompt"])) == fixture["release_prompt_ids"]


def test_prompts_do_not_change_from_day_to_day() -> None:
    """Llama's newer templates write today's date where none is given."""
    fixture = json.loads((FIXTURES / "llama-3.json").read_text())
    chat = chat_of(fixture)
    chat.tokenizer.chat_template = (
        "{% if date_string is defined %}{{ date_string }}"
        "{% else %}{{ strftime_now('%d %b %Y') }}{% endif %}"
    )
    rendered: list[str] = []

    def tokenize(text: str, **_: Any) -> dict[str, list[int]]:
        rendered.append(text)
        return {"input_ids": []}

    class Watched:
        apply_chat_template = staticmethod(chat.tokenizer.apply_chat_template)
        __call__ = staticmethod(tokenize)

    ChatFormat(Watched()).prompt_ids("Hello")
    assert rendered == ["26 Jul 2024"]
