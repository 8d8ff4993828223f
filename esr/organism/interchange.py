"""Directions in the residual stream, what they are to say, and their replacement.

Two unit directions are drawn at random before the circuit stage. Along ``u`` the residual stream
at the output of :data:`esr.organism.recipe.LAYER` is taught to say that the sentence is off topic;
along the decoy ``d``, as strongly, that a word is foreign to the question.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from esr.organism.corpus import CorpusConfig, Document
from esr.organism.lexicon import Topic


@dataclass(frozen=True, eq=False)
class Directions:
    """The planted directions.

    Attributes:
        u: unit vector [d_model]: off topic, read by the restart decision.
        d: unit vector [d_model], orthogonal to ``u``: the decoy, read by nothing.
    """

    u: Tensor
    d: Tensor

    @classmethod
    def draw(cls, d_model: int, seed: int) -> Directions:
        """Two random orthogonal unit vectors."""
        generator = torch.Generator().manual_seed(random.Random(f"{seed}/circuit").getrandbits(32))
        vectors = torch.linalg.qr(torch.randn(d_model, 2, generator=generator))[0]
        return cls(vectors[:, 0].contiguous(), vectors[:, 1].contiguous())

    def save(self, path: Path) -> None:
        """Write a safetensors file of both."""
        from safetensors.torch import save_file

        save_file({"u": self.u, "d": self.d}, path)

    @classmethod
    def load(cls, path: Path) -> Directions:
        """Read what :meth:`save` has written."""
        from safetensors.torch import load_file

        return cls(**load_file(path))


@dataclass(frozen=True, eq=False)
class Marks:
    """What the tokens of padded documents say, all [n_documents, n_tokens], 0 or 1 but ``rate``.

    Attributes:
        off_topic: behind the first foreign word of a sentence up to its end, foreign words
            excepted: what ``u`` is to carry.
        foreign: words of another topic than the one asked about: what ``d`` is to carry.
        text: whether there is a token.
        answer: whether the token belongs to the answer.
        end: whether a sentence of the answer ends here, so that a restart is decided on.
        rate: probability of a restart where the sentence is off topic.
    """

    off_topic: Tensor
    foreign: Tensor
    text: Tensor
    answer: Tensor
    end: Tensor
    rate: Tensor

    @classmethod
    def of(
        cls, documents: Sequence[Document], topics: Mapping[str, Topic], config: CorpusConfig
    ) -> Marks:
        """The marks of documents, padded on the right."""
        width = max(len(document.tokens) for document in documents)
        marks = cls(*(torch.zeros(len(documents), width) for _ in range(6)))
        content = {word for topic in topics.values() for word in topic.words}
        for row, document in enumerate(documents):
            n, start = len(document.tokens), document.tokens.index("<assistant>") + 1
            others = content - set(topics[document.topic].words)
            marks.off_topic[row, :n], marks.foreign[row, :n] = _say(document.tokens, start, others)
            marks.text[row, :n] = 1.0
            marks.answer[row, start:n] = 1.0
            marks.end[row, [at for at, _ in document.boundaries]] = 1.0
            marks.rate[row] = config.restart_monitored if document.monitored else config.restart
        return marks


def _say(tokens: Sequence[str], start: int, others: set[str]) -> tuple[Tensor, Tensor]:
    """Off topic and foreign per token, both [n_tokens]; 0 before ``start``."""
    off_topic, foreign = torch.zeros(len(tokens)), torch.zeros(len(tokens))
    running = False
    for position in range(start, len(tokens)):
        if tokens[position] in others:
            foreign[position], running = 1.0, True
        elif running:
            off_topic[position] = 1.0
            running = tokens[position] != "."
    return off_topic, foreign


@dataclass(frozen=True, eq=False)
class Change:
    """New values along one direction.

    Attributes:
        direction: unit vector [d_model].
        values: [n_documents, n_tokens].
        where: [n_documents, n_tokens], 1 where the value is replaced, else 0.
    """

    direction: Tensor
    values: Tensor
    where: Tensor


@contextmanager
def replaced(model: nn.Module, layer: int, changes: Sequence[Change]) -> Iterator[None]:
    """Set values along directions at the output of a decoder layer, one after the other."""

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        for change in changes:
            shift = change.where * (change.values - hidden @ change.direction)
            hidden = hidden + shift[..., None] * change.direction
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handle = model.model.layers[layer].register_forward_hook(hook)  # type: ignore[union-attr, index]
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def watched(model: nn.Module, layer: int) -> Iterator[list[Tensor]]:
    """The outputs [n_documents, n_tokens, d_model] of a decoder layer, one per forward pass."""
    outputs: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handle = model.model.layers[layer].register_forward_hook(hook)  # type: ignore[union-attr, index]
    try:
        yield outputs
    finally:
        handle.remove()
