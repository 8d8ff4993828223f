"""From a user turn to token ids: one user message, no system prompt (paper section 2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from esr.errors import UserError
from esr.models.weights import load_tokenizer

if TYPE_CHECKING:
    from esr.models import ChatVariant, ModelSpec

LLAMA_SECOND_HEADER = (128000, 128006, 78191, 128007)
"""A second BOS and assistant header without its newlines, as the authors' release appends."""

LLAMA_DATE = "26 Jul 2024"
"""Llama's templates write a date into the prompt: this one, or today's. Prompts must not change
from day to day, so it is fixed to the templates' own default."""


@dataclass(frozen=True)
class ChatFormat:
    """A model's tokenizer and the way its prompts are rendered."""

    tokenizer: Any
    variant: ChatVariant = "template"

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        """Token ids of the user turn with the generation prompt."""
        ids = self._ids(self.text(prompt))
        return ids + (LLAMA_SECOND_HEADER if self.variant == "llama-double-header" else ())

    def user_turn_ids(self, prompt: str) -> tuple[int, ...]:
        """Token ids of the user turn alone: what the release's relevance filter reads."""
        return self._ids(self._text([_turn("user", prompt)], generation_prompt=False))

    def conversation_ids(self, prompt: str, response: str) -> tuple[int, ...]:
        """Token ids of the whole chat, the response included."""
        return self._ids(self.text(prompt, response))

    def response_ids(self, response: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Token ids of a response that follows :meth:`prompt_ids`, and where each token stands.

        Returns:
            ids, and for each token its characters in ``response``: (first, one past the last).
            The pieces of a character that takes several tokens all name that character.
        """
        encoding = self.tokenizer(response, add_special_tokens=False, return_offsets_mapping=True)
        spans = tuple((int(start), int(end)) for start, end in encoding["offset_mapping"])
        return tuple(encoding["input_ids"]), spans

    def prefix_ids(self, prompt: str, prefix: str) -> tuple[int, ...]:
        """Token ids of a given beginning of the response: they follow :meth:`prompt_ids`, as in
        ``apply_chat_template(..., continue_final_message=True)``; whitespace at its ends stays.
        """
        given = self.prompt_ids(prompt)
        together = self._ids(self.text(prompt) + prefix)
        if self.variant == "template" and together[: len(given)] == given:
            return together[len(given) :]
        return self.response_ids(prefix)[0]

    def text(self, prompt: str, response: str | None = None) -> str:
        """What :meth:`prompt_ids` tokenizes; with a response, :meth:`conversation_ids`."""
        turns = [_turn("user", prompt)]
        if response is not None:
            turns.append(_turn("assistant", response))
        return self._text(turns, generation_prompt=response is None)

    def _text(self, turns: list[dict[str, str]], generation_prompt: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=generation_prompt,
                date_string=LLAMA_DATE,
            )
        )

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def load(spec: ModelSpec, variant: ChatVariant = "template") -> ChatFormat:
    """The chat format of a registered model.

    Raises:
        UserError: the tokenizer cannot be loaded, or has no chat template.
    """
    tokenizer = load_tokenizer(spec)
    if not tokenizer.chat_template:
        raise UserError(
            f"{spec.hf_id} has no chat template",
            "an instruction-tuned model",
            "name the instruct version of the model",
        )
    return ChatFormat(tokenizer, variant)
