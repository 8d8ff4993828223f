"""Training of the organism: stages, what they minimise, and their logs."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from esr.organism.corpus import Corpus, Document
from esr.organism.perturbations import Perturbations, added, pad
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
