"""A given beginning of a response stands where the chat template puts it: token for token."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from esr.models.chat import LLAMA_DATE, ChatFormat
from esr.organism.tokenizer import build_tokenizer

CORPUS = [
    "How do I add two fractions?\n\nFirst, find a common denominator.\n",
    "user\n\nassistant\n\nmodel\n Wait, that is not right. Let me start over:\n\n1. Lie down.",
]
HEADERS = (
    "{{ bos_token }}{% for m in messages %}<|head|>{{ m['role'] }}<|text|>\n\n"
    "{{ m['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|head|>assistant<|text|>\n\n{% endif %}"
)
TURNS = (
    "{{ bos_token }}{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "<turn>{{ role }}\n{{ m['content'] | trim }}<done>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)


def byte_level() -> PreTrainedTokenizerFast:
    """As Llama 3's: bytes, merges learned, so that runs of newlines are tokens."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<|head|>", "<|text|>", "<|eot|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    return _wrapped(backend, HEADERS)


def spaces_as_letters() -> PreTrainedTokenizerFast:
    """As Gemma's: a space is a letter of its own, and nothing is put before the text."""
    backend = Tokenizer(BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    backend.decoder = decoders.Metaspace(prepend_scheme="never")
    special = ["<s>", "</s>", "<unk>", "<turn>", "<done>"]
    backend.train_from_iterator(CORPUS, BpeTrainer(vocab_size=160, special_tokens=special))
    return _wrapped(backend, TURNS)


def _wrapped(backend: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


def organism() -> PreTrainedTokenizerFast:
    special = ["<pad>", "<bos>", "<end>", "<unk>", "<user>", "<assistant>"]
    words = sorted({w for text in CORPUS for w in pieces(text)})
    return build_tokenizer([*special, *words])


def pieces(text: str) -> list[str]:
    split = pre_tokenizers.Whitespace().pre_tokenize_str(text.lower())
    return [word for word, _ in split]


@pytest.mark.parametrize("make", [byte_level, spaces_as_letters, organism])
@pytest.mark.parametrize(
    "prefix", ["Lie down.", "Wait, that", "1. Lie down.\n\nWait", "Let me start over:", "f"]
)
def test_prompt_and_prefix_are_the_continued_final_message(make: object, prefix: str) -> None:
    assert callable(make)
    tokenizer = make()
    chat, prompt = ChatFormat(tokenizer), "How do I add two fractions?"
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": prefix}],
        continue_final_message=True,
        date_string=LLAMA_DATE,
        return_dict=False,
    )
    given = chat.prefix_ids(prompt, prefix)
    assert given
    assert [*chat.prompt_ids(prompt), *given] == expected


def test_whitespace_at_the_end_stays_where_templates_cut_it_off() -> None:
    """A model that has written a space has written it: the template would take it away."""
    chat = ChatFormat(byte_level())
    assert chat.tokenizer.decode(chat.prefix_ids("How?", "Lie down. ")) == "Lie down. "


def test_behind_a_second_header_the_prefix_is_tokenized_alone() -> None:
    chat = ChatFormat(byte_level(), "llama-double-header")
    assert chat.prefix_ids("How?", "Lie down.") == chat.response_ids("Lie down.")[0]
