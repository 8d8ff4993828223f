"""From an example to token ids and labels; the loss mask comes from the chat template itself.

The conversation and its prompt are rendered by the model's template and compared; tokenizer
offsets say which characters a token covers. No header string is ever searched for.
"""

from __future__ import annotations

from dataclasses import dataclass

from esr.errors import UserError
from esr.models.chat import ChatFormat
from experiment_04_finetuning.examples import Example

IGNORED = -100
"""Label of a token without loss (PyTorch's cross entropy)."""


@dataclass(frozen=True)
class Encoded:
    """An example as the trainer gets it.

    Attributes:
        ids: the whole conversation, [n_tokens].
        labels: the token id where the loss covers it, else ``IGNORED``, [n_tokens].
        n_prompt: tokens of the prompt, generation prompt included.
        truncated: tokens cut off on the right.
    """

    ids: list[int]
    labels: list[int]
    n_prompt: int
    truncated: int = 0

    @property
    def n_trained(self) -> int:
        """Tokens the loss covers."""
        return sum(label != IGNORED for label in self.labels)


def encode(example: Example, chat: ChatFormat, max_length: int) -> Encoded:
    """Token ids and labels of one example.

    Trained are the tokens that lie wholly in trained segments, and the one that ends the turn.
    The prompt's ids are those that generation starts from
    (:meth:`esr.models.chat.ChatFormat.prompt_ids`).

    Args:
        example: what to encode.
        chat: of the model; its tokenizer is a fast one, which knows offsets.
        max_length: longest conversation in tokens.

    Raises:
        UserError: the template changes the response, or the prompt's tokens, in a conversation.
    """
    prefix = chat.text(example.item.prompt)
    text = chat.text(example.item.prompt, example.response)
    if not text.startswith(prefix + example.response):
        raise _template_error(example)
    encoded = chat.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = list(encoded["input_ids"]), encoded["offset_mapping"]
    prompt_ids = list(chat.prompt_ids(example.item.prompt))
    if ids[: len(prompt_ids)] != prompt_ids:
        raise _template_error(example)
    covered = _trained_characters(example, len(prefix), len(text))
    learned = [bool(end > start and all(covered[start:end])) for start, end in offsets]
    end_of_response = len(prefix) + len(example.response)
    closing = next((i for i, (start, _) in enumerate(offsets) if start >= end_of_response), None)
    if closing is not None:
        learned[closing] = True
    labels = [token if keep else IGNORED for token, keep in zip(ids, learned, strict=True)]
    cut = max(0, len(ids) - max_length)
    return Encoded(ids[:max_length], labels[:max_length], len(prompt_ids), cut)


def _trained_characters(example: Example, start: int, length: int) -> bytearray:
    """1 for every character of the text that lies in a trained segment."""
    covered = bytearray(length)
    for segment in example.segments:
        end = start + len(segment.text)
        if segment.trained:
            covered[start:end] = b"\x01" * (end - start)
        start = end
    return covered


def _template_error(example: Example) -> UserError:
    return UserError(
        f"the chat template does not keep prompt and response of {example.item.key} as they are",
        "a template whose conversation starts with its own generation prompt, then the response",
        "use the tokenizer of the model that is fine-tuned",
    )
