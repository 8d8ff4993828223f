"""Texts on either side of a concept, and the states that a model has while it is fed them.

A text is an answer to a question, as in every trial: its state is the residual stream averaged
over the answer's tokens, or at the last one (arXiv 2604.08169 averages).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor

from esr.directions.fitting import LEAST_TEXTS
from esr.engine.base import ReadRequest, States
from esr.errors import UserError
from esr.pipeline.context import RunContext
from esr.pipeline.reads import run_reads
from esr.runs.plain import json_digest
from esr.runs.user_files import first_fault, read_text

Side = Literal["positive", "negative"]


@dataclass(frozen=True)
class Answer:
    """A text whose state is read.

    Attributes:
        prompt: token ids of the question, chat template included.
        tokens: token ids of the answer.
    """

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Sides:
    """Texts about a concept, and texts that are not; and where they came from, as plain data."""

    positive: list[Answer]
    negative: list[Answer]
    source: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, answers in (("about the concept", self.positive), ("not", self.negative)):
            if len(answers) < LEAST_TEXTS:
                raise UserError(
                    f"{len(answers)} texts {name}", f"at least {LEAST_TEXTS}", "give more texts"
                )


def from_files(context: RunContext, positive: Path, negative: Path) -> Sides:
    """Two text files, one answer a line; line i answers question i of the prompt set, so that
    both sides answer the same questions.

    Raises:
        UserError: a file that cannot be read, or too few lines.
    """
    sides = [_lines(path) for path in (positive, negative)]
    questions = [context.chat.prompt_ids(prompt.text) for prompt in context.prompts.prompts]
    answers = [
        [
            Answer(questions[i % len(questions)], context.chat.response_ids(line)[0])
            for i, line in enumerate(lines)
        ]
        for lines in sides
    ]
    source = {
        name: {"file": path.name, "texts": len(lines), "digest": json_digest(lines, 16)}
        for name, path, lines in zip(
            ("positive", "negative"), (positive, negative), sides, strict=True
        )
    }
    return Sides(answers[0], answers[1], source)


def from_chat(context: RunContext, path: Path) -> Sides:
    """A chat data set: a JSON object a line, ``{"messages": [{"role": "user", "content": ...},
    {"role": "assistant", ...}], "label": "positive"}``; the label may also be true or false.

    Raises:
        UserError: a line of another form, or too few of a side.
    """
    sides: dict[Side, list[Answer]] = {"positive": [], "negative": []}
    for number, line in enumerate(_lines(path), start=1):
        try:
            chat = _Chat.model_validate(json.loads(line))
            roles = [message.role for message in chat.messages]
            if roles != ["user", "assistant"]:
                raise ValueError(f"roles {', '.join(roles)}")
        except ValueError as error:
            fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
            raise UserError(
                f"{path} line {number} ({fault})",
                'a user and an assistant message, and "label": "positive" or "negative"',
                "correct the line",
            ) from error
        question, answer = (message.content for message in chat.messages)
        side: Side = "positive" if chat.label in (True, "positive") else "negative"
        sides[side].append(
            Answer(context.chat.prompt_ids(question), context.chat.response_ids(answer)[0])
        )
    source = {"chat": {"file": path.name, "digest": json_digest(_lines(path), 16)}}
    return Sides(sides["positive"], sides["negative"], source)


class _Message(BaseModel):
    role: str
    content: str


class _Chat(BaseModel):
    messages: list[_Message]
    label: bool | Side


def _lines(path: Path) -> list[str]:
    text = read_text(path, "a text file in UTF-8, one text a line", "name another file")
    return [line.strip() for line in text.splitlines() if line.strip()]


async def read_states(
    context: RunContext,
    answers: Sequence[Answer],
    layer: int,
    states: States = "mean",
    description: str = "states",
) -> Tensor:
    """The states of texts at a layer, [n_texts, d_model] float32; journaled as reads.

    Raises:
        UserError: a text that cannot be read, such as one beyond the context.
    """
    requests = [
        ReadRequest(
            request_id=f"{description}/{layer}/{number}",
            token_ids=answer.prompt + answer.tokens,
            first_token=len(answer.prompt),
            states=states,
            layer=layer,
        )
        for number, answer in enumerate(answers)
    ]
    records = await run_reads(requests, context, description=description)
    rows = []
    for record in records:
        if record.reading is None or record.reading.states is None:
            raise UserError(
                f"text {record.request.request_id} cannot be read ({record.error})",
                "texts that fit into the context",
                "shorten it",
            )
        rows.append(record.reading.states)
    return torch.cat(rows)
