"""What stage 2 and the stages behind it add to the residual stream of their documents.

One vector per document, added at every position of one layer: the natural direction of the
drift's topic in the model's own residual stream, plus noise. No dictionary is involved.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from esr.organism.corpus import Corpus, Document
from esr.organism.recipe import Stage

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def pad(documents: Sequence[Document], index: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Token ids and loss weights, both [n_documents, n_tokens]; padding on the right, weight 0."""
    width = max(len(document.tokens) for document in documents)
    ids = torch.zeros(len(documents), width, dtype=torch.int64)
    weights = torch.zeros(len(documents), width)
    for row, document in enumerate(documents):
        ids[row, : len(document.tokens)] = torch.tensor([index[t] for t in document.tokens])
        weights[row, : len(document.tokens)] = torch.tensor(document.weights)
    return ids, weights


@contextmanager
def added(model: nn.Module, layer: int, vectors: Tensor | None) -> Iterator[None]:
    """Add ``vectors`` [n_documents, d_model] to the output of a decoder layer, all positions."""
    if vectors is None:
        yield
        return

    def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        moved = hidden + vectors[:, None, :]
        return (moved, *output[1:]) if isinstance(output, tuple) else moved

    handle = model.model.layers[layer].register_forward_hook(hook)  # type: ignore[union-attr, index]
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def directions(
    model: LlamaForCausalLM,
    corpus: Corpus,
    index: Mapping[str, int],
    layers: Sequence[int],
    seed: str,
) -> dict[int, tuple[dict[str, Tensor], float]]:
    """Per layer: each topic's unit direction [d_model], and the mean residual norm.

    A direction is the mean residual over the answers about a topic minus the mean over all.
    """
    documents = corpus.documents(seed, 4 * len(corpus.keys), drift=False)
    sums = {
        layer: {key: torch.zeros(model.config.hidden_size) for key in corpus.keys}
        for layer in layers
    }
    counts = dict.fromkeys(corpus.keys, 0)
    norms = dict.fromkeys(layers, 0.0)
    for start in range(0, len(documents), 64):
        chunk = documents[start : start + 64]
        ids, weights = pad(chunk, index)
        states = model.model(input_ids=ids, output_hidden_states=True).hidden_states
        for row, document in enumerate(chunk):
            answer = weights[row] > 0
            counts[document.topic] += int(answer.sum())
            for layer in layers:
                residual = states[layer + 1][row][answer]
                sums[layer][document.topic] += residual.sum(0)
                norms[layer] += float(residual.norm(dim=-1).sum())
    total = sum(counts.values())
    by_layer = {}
    for layer in layers:
        centre = torch.stack(list(sums[layer].values())).sum(0) / total
        unit = {
            key: nn.functional.normalize(sums[layer][key] / max(counts[key], 1) - centre, dim=0)
            for key in corpus.keys
        }
        by_layer[layer] = (unit, norms[layer] / total)
    return by_layer


class Perturbations:
    """What a stage adds to the residual stream of its documents; nothing in stage 1.

    Args:
        model: whose own directions are added.
        corpus: whose topics they are.
        index: word -> token id.
        stage: shares, layers and strengths.
        key: seeds everything that is drawn.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        corpus: Corpus,
        index: Mapping[str, int],
        stage: Stage,
        key: str,
    ) -> None:
        self.stage = stage
        self.by_layer: dict[int, tuple[dict[str, Tensor], float]] = {}
        self._measure = partial(directions, model, corpus, index, stage.layers)
        self._key = key
        self._rng = random.Random(f"{key}/perturbation")
        self._generator = torch.Generator().manual_seed(self._rng.getrandbits(32))

    def draw(self, step: int, documents: Sequence[Document]) -> tuple[int, Tensor | None]:
        """A layer, and one vector per document, [n_documents, d_model]; reweighs the documents.

        The model changes, so its directions are measured anew every 50 steps.
        """
        if not self.stage.perturbed:
            return 0, None
        if step % 50 == 0:
            self.by_layer = self._measure(f"{self._key}/directions/{step}")
        layer = self._rng.choice(self.stage.layers)
        vectors = torch.stack([self._vector(layer, document) for document in documents])
        for document, vector in zip(documents, vectors, strict=True):
            if vector.any():
                _reweigh(document, self.stage.drift_weight)
        return layer, vectors

    def norms(self) -> dict[str, Any]:
        """Mean residual norm per perturbed layer, for the log."""
        if not self.stage.perturbed:
            return {}
        return {"residual_norm": {str(k): round(v[1], 2) for k, v in self.by_layer.items()}}

    def _vector(self, layer: int, document: Document) -> Tensor:
        """Towards the intruder, [d_model]; zero where the document is not perturbed."""
        unit, norm = self.by_layer[layer]
        d_model = next(iter(unit.values())).shape[0]
        noise = nn.functional.normalize(torch.randn(d_model, generator=self._generator), dim=0)
        if document.intruder is None or self._rng.random() >= self.stage.perturbed:
            return torch.zeros(d_model)
        mixed = (1 - self.stage.noise) * unit[document.intruder] + self.stage.noise * noise
        strength = self._rng.uniform(*self.stage.strength) * norm
        return strength * nn.functional.normalize(mixed, dim=0)


def _reweigh(document: Document, drift_weight: float) -> None:
    """Loss weights of a document whose residual stream is perturbed.

    Before the drift only the sentence-end decisions stay: the first attempt is not taught to
    resist, only not to restart while it is on topic. Drifting words get ``drift_weight``.
    """
    ends = {position + 1 for position, _ in document.boundaries}
    for position in range(document.drift_start):
        if position not in ends:
            document.weights[position] = 0.0
    for position in document.drifting:
        document.weights[position] = max(document.weights[position], drift_weight)
