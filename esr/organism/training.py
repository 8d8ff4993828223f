"""Training of the organism: stage 1 on text, stage 2 under a perturbed residual stream.

Stage 2 teaches recovery under something close to the test itself: one vector per document,
added at every position of one layer. The vector is the natural direction of the drift's topic
in the model's own residual stream, plus noise. No dictionary is involved.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from esr.organism.corpus import Corpus, Document
from esr.organism.recipe import Shape, Stage

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


def build_model(shape: Shape, n_vocabulary: int, seed: int) -> LlamaForCausalLM:
    """A freshly initialised model; the global random state is left as it was."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=n_vocabulary,
        hidden_size=shape.d_model,
        intermediate_size=shape.d_mlp,
        num_hidden_layers=shape.n_layers,
        num_attention_heads=shape.n_heads,
        num_key_value_heads=shape.n_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


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


def pad(documents: Sequence[Document], index: Mapping[str, int]) -> tuple[Tensor, Tensor]:
    """Token ids and loss weights, both [n_documents, n_tokens]; padding on the right, weight 0."""
    width = max(len(document.tokens) for document in documents)
    ids = torch.zeros(len(documents), width, dtype=torch.int64)
    weights = torch.zeros(len(documents), width)
    for row, document in enumerate(documents):
        ids[row, : len(document.tokens)] = torch.tensor([index[t] for t in document.tokens])
        weights[row, : len(document.tokens)] = torch.tensor(document.weights)
    return ids, weights


def batches(corpus: Corpus, seed: str, size: int) -> Iterator[list[Document]]:
    """Endless batches of similar length, so that little is padding."""
    rng = random.Random(seed)
    while True:
        pool = sorted((corpus.document(rng) for _ in range(size * 16)), key=lambda d: len(d.tokens))
        starts = list(range(0, len(pool), size))
        rng.shuffle(starts)
        for start in starts:
            yield pool[start : start + size]


def loss_of(model: LlamaForCausalLM, ids: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean next-token loss. ``ids``, ``weights``: [n_documents, n_tokens]."""
    hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
    trained = weights[:, 1:] > 0
    return _weighted(model.lm_head(hidden[trained]), ids[:, 1:][trained], weights[:, 1:][trained])


def next_token_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """The same from logits [n_documents, n_tokens - 1, n_words]."""
    trained = weights[:, 1:] > 0
    return _weighted(logits[trained], ids[:, 1:][trained], weights[:, 1:][trained])


def _weighted(logits: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    each = nn.functional.cross_entropy(logits, wanted, reduction="none")
    return (each * weights).sum() / weights.sum()


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


def learning_rate(step: int, steps: int) -> float:
    """Share of the peak: linear warm-up over the first 5 %, then cosine to a tenth."""
    warm = max(1, steps // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


class Objective(Protocol):
    """What a stage minimises."""

    def parts(self, step: int, documents: Sequence[Document]) -> dict[str, Tensor]:
        """Parts of the loss by name; their sum is minimised."""

    def figures(self, step: int, /) -> dict[str, Any]:
        """What the log says besides, once ``step`` steps are done."""


class TextObjective:
    """The next word, under the perturbations of the stage.

    Args:
        model: trained in place.
        corpus: where documents come from.
        index: word -> token id.
        stage: what to do.
        seed: of the build.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        corpus: Corpus,
        index: Mapping[str, int],
        stage: Stage,
        seed: int,
    ) -> None:
        self.model, self.index = model, index
        self.perturbations = Perturbations(model, corpus, index, stage, f"{seed}/{stage.name}")

    def parts(self, step: int, documents: Sequence[Document]) -> dict[str, Tensor]:
        """The one loss there is."""
        layer, vectors = self.perturbations.draw(step, documents)
        ids, weights = pad(documents, self.index)
        with added(self.model, layer, vectors):
            return {"text": loss_of(self.model, ids, weights)}

    def figures(self, _step: int) -> dict[str, Any]:
        """Norms of the residual stream, where it is perturbed."""
        return self.perturbations.norms()


def train(
    model: LlamaForCausalLM,
    corpus: Corpus,
    index: Mapping[str, int],
    stage: Stage,
    seed: int,
    log: Path,
    objective: Objective | None = None,
) -> None:
    """Run one stage in place, appending a line to ``log`` every 25 steps.

    Args:
        model: trained in place.
        corpus: where documents come from.
        index: word -> token id.
        stage: what to do.
        seed: with the stage's name, decides documents and perturbations.
        log: JSON lines: step, loss, tokens, seconds.
        objective: what is minimised; the next word where None.
    """
    objective = objective or TextObjective(model, corpus, index, stage, seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
    )
    rate = partial(learning_rate, steps=stage.steps)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    source = batches(corpus, f"{seed}/{stage.name}/documents", stage.batch)
    started, tokens, losses = time.monotonic(), 0, list[dict[str, float]]()
    model.train()
    for step in tqdm(range(stage.steps), desc=stage.name, mininterval=5):
        documents = next(source)
        parts = objective.parts(step, documents)
        torch.stack([*parts.values()]).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        tokens += sum(len(document.tokens) for document in documents)
        losses.append({name: float(part.detach()) for name, part in parts.items()})
        if (step + 1) % 25 == 0 or step + 1 == stage.steps:
            means = {name: sum(row[name] for row in losses) / len(losses) for name in parts}
            line = {
                "stage": stage.name,
                "step": step + 1,
                "loss": round(sum(means.values()), 4),
                "tokens": tokens,
                "seconds": round(time.monotonic() - started, 1),
            }
            if len(means) > 1:
                line["parts"] = {name: round(mean, 4) for name, mean in means.items()}
            line |= objective.figures(step + 1)
            with log.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
            losses.clear()
    model.eval()
