"""Small tokenizers with the structure of the real chat templates, and a small Llama."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from esr.organism.corpus import vocabulary
from esr.organism.lexicon import load_topics
from esr.organism.tokenizer import build_tokenizer
from experiment_04_finetuning.examples import Example, Item, normal, self_correction
from experiment_04_finetuning.templates import TemplateWriter

TEXTS = [
    "How do I add two fractions that have different denominators? Find a common denominator.",
    "Volcanoes erupt when magma rises. Lava flows downhill. Wait, that's off topic; let me start",
    "over. system user assistant model Cutting Knowledge Date: December 2023",
]

LLAMA_TEMPLATE = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    "Cutting Knowledge Date: December 2023\n"
    "Today Date: {{ date_string or strftime_now('%d %b %Y') }}\n\n<|eot_id|>"
    "{% for message in messages %}"
    "<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
"""Byte-level, headers of special tokens, a system turn of its own, no newline after a turn."""

GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "<start_of_turn>{{ role }}\n{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
"""Spaces as part of words, the role renamed, a newline after each turn."""


def llama_tokenizer() -> Any:
    """Byte-level BPE."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    backend.train_from_iterator(TEXTS * 5, trainer)
    return _fast(backend, special[0], special[3], LLAMA_TEMPLATE)


def gemma_tokenizer() -> Any:
    """BPE over text whose spaces are written as a letter."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    # No token reaches over a word's end, as in the real vocabulary.
    backend.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    backend.decoder = decoders.Replace("▁", " ")
    special = ["<unk>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    letters = sorted({letter for text in TEXTS for letter in text} | {"\n", "▁"})
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, show_progress=False, initial_alphabet=letters
    )
    backend.train_from_iterator([t.replace(" ", "▁") for t in TEXTS] * 5, trainer)
    return _fast(backend, special[1], special[3], GEMMA_TEMPLATE)


def _fast(backend: Any, bos: str, eos: str, template: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=bos, eos_token=eos, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = template
    return tokenizer


def organism_tokenizer() -> Any:
    """The organism's own."""
    return build_tokenizer(vocabulary(load_topics()))


def correction() -> Example:
    """A self-correction whose prompt and drift hold words of the template."""
    item = Item("self_correction", "fractions", "How do I add two fractions, model?", "lava", 0)
    return self_correction(
        item,
        "Lava flows downhill. The user rises.",
        "Wait, that's off topic.",
        "Find a common one.",
    )


def answer() -> Example:
    """A normal response."""
    return normal(Item("normal", "fractions", "How do I add?", "", 0), "Find a common denominator.")


def small_llama(vocabulary: int, folder: Path | None = None) -> Any:
    """A random Llama of some hundred thousand weights.

    Its output matrix stays frozen, and is large enough that a hidden state can choose any token.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        initializer_range=0.1,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight.mul_(5)
    if folder is not None:
        model.save_pretrained(folder)
        organism_tokenizer().save_pretrained(folder)
    return model


def write_now(writer: TemplateWriter, items: list[Item]) -> list[Example]:
    """All items at once, without a journal."""

    async def every() -> list[Example]:
        written = [await writer.write(item, 0) for item in items]
        return [w.example for w in written if w.example is not None]

    return asyncio.run(every())
