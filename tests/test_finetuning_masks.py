"""Which tokens are trained: checked one by one on three chat templates."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from esr.errors import UserError
from esr.models.chat import LLAMA_DATE, ChatFormat
from experiment_04_finetuning.examples import Example, Item, Segment, normal
from experiment_04_finetuning.masking import IGNORED, encode
from tests.finetuning_models import (
    answer,
    correction,
    gemma_tokenizer,
    llama_tokenizer,
    organism_tokenizer,
)

TOKENIZERS: list[tuple[Callable[[], Any], str, str]] = [
    (llama_tokenizer, "<|eot_id|>", ""),
    (gemma_tokenizer, "<end_of_turn>", "\n"),
    (organism_tokenizer, "<end>", ""),
]


@pytest.fixture(params=TOKENIZERS, ids=["llama-3", "gemma-2", "organism"])
def kind(request: pytest.FixtureRequest) -> tuple[Any, str, str]:
    """A tokenizer, the token that ends a turn, and what the template writes after it."""
    make, end, after = request.param
    return make(), end, after


def trained_text(example: Example, tokenizer: Any) -> str:
    """What the loss covers, cut from the rendered conversation by character offsets."""
    text = rendered(example, tokenizer)
    encoded = encode(example, ChatFormat(tokenizer), 4096)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    kept = [span for span, label in zip(offsets, encoded.labels, strict=True) if label != IGNORED]
    # One stretch: nothing untrained in between but blanks that belong to no token.
    between = [text[a[1] : b[0]].strip() for a, b in pairwise(kept)]
    assert not any(between)
    return text[kept[0][0] : kept[-1][1]]


def rendered(example: Example, tokenizer: Any) -> str:
    turns = [
        {"role": "user", "content": example.item.prompt},
        {"role": "assistant", "content": example.response},
    ]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, date_string=LLAMA_DATE))


def test_a_correction_is_trained_from_its_acknowledgement_to_the_end_of_the_turn(
    kind: tuple[Any, str, str],
) -> None:
    tokenizer, end, after = kind
    example = correction()
    assert (
        trained_text(example, tokenizer).strip()
        == "Wait, that's off topic. Find a common one." + end
    )
    assert rendered(example, tokenizer).endswith(end + after)


def test_a_normal_response_is_trained_as_a_whole(kind: tuple[Any, str, str]) -> None:
    tokenizer, end, _ = kind
    assert trained_text(answer(), tokenizer) == "Find a common denominator." + end


def test_every_token_carries_the_mask_of_its_characters(kind: tuple[Any, str, str]) -> None:
    tokenizer, end, after = kind
    example = correction()
    text = rendered(example, tokenizer)
    encoded = encode(example, ChatFormat(tokenizer), 4096)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
        "offset_mapping"
    ]
    # By hand: the acknowledgement is the only stretch with these words.
    first = text.index("Wait, that's") - 1
    last = len(text) - len(after)
    for token, label, (a, b) in zip(encoded.ids, encoded.labels, offsets, strict=True):
        inside = first <= a and b <= last
        assert label == (token if inside else IGNORED), (text[a:b], a, b)
    assert tokenizer.decode([encoded.labels[-1 - bool(after)]]) == end


def test_the_masked_prompt_is_what_generation_starts_from(kind: tuple[Any, str, str]) -> None:
    tokenizer, _, _ = kind
    for example in (correction(), answer()):
        encoded = encode(example, ChatFormat(tokenizer), 4096)
        prompt_ids = ChatFormat(tokenizer).prompt_ids(example.item.prompt)
        assert tuple(encoded.ids[: encoded.n_prompt]) == prompt_ids
        assert set(encoded.labels[: encoded.n_prompt]) == {IGNORED}
        chat = ChatFormat(tokenizer).conversation_ids(example.item.prompt, example.response)
        assert tuple(encoded.ids) == chat


def test_header_words_in_the_texts_do_not_move_the_mask() -> None:
    tokenizer = llama_tokenizer()
    tricky = "<|start_header_id|>assistant<|end_header_id|>\n\nFind me."
    example = normal(Item("normal", "p", f"Explain {tricky}", "", 0), f"It is a header: {tricky}")
    assert trained_text(example, tokenizer) == f"It is a header: {tricky}<|eot_id|>"


def test_a_token_that_straddles_two_segments_is_not_trained() -> None:
    tokenizer = organism_tokenizer()
    item = Item("self_correction", "p", "how do i add ?", "lava", 0)
    # "lava" is one word-level token, cut in two.
    example = Example(item, (Segment("the la", False), Segment("va is wrong .", True)))
    encoded = encode(example, ChatFormat(tokenizer), 4096)
    lava = tokenizer.convert_tokens_to_ids("lava")
    assert lava in encoded.ids
    assert lava not in encoded.labels
    assert tokenizer.convert_tokens_to_ids("wrong") in encoded.labels


def test_long_examples_are_cut_on_the_right_and_counted() -> None:
    tokenizer = organism_tokenizer()
    whole = encode(answer(), ChatFormat(tokenizer), 4096)
    cut = encode(answer(), ChatFormat(tokenizer), whole.n_prompt + 2)
    assert cut.ids == whole.ids[: whole.n_prompt + 2]
    assert (cut.truncated, cut.n_trained) == (len(whole.ids) - whole.n_prompt - 2, 2)


def test_a_template_that_rewrites_the_answer_is_refused() -> None:
    tokenizer = organism_tokenizer()
    template = tokenizer.chat_template
    tokenizer.chat_template = template.replace("message['content'] }}<end>", "'x' }}<end>")
    with pytest.raises(UserError, match="chat template"):
        encode(answer(), ChatFormat(tokenizer), 4096)
