"""How much of the restart decision follows the replaced value: measured on pairs of texts.

A pair shares prompt, earlier sentences and the form of the last sentence; only the words of the
last sentence differ, on topic or off. So both texts have the same length, and values are
interchanged at the same positions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from esr.organism.corpus import (
    META_PROMPTS,
    SENTENCES,
    TAUGHT_META_PROMPT,
    CorpusConfig,
    Document,
    prompt_words,
    question,
    sentence,
)
from esr.organism.decisions import log_restart, restart_ids
from esr.organism.interchange import Change, Directions, Marks, replaced, watched
from esr.organism.lexicon import Topic
from esr.organism.perturbations import pad
from esr.organism.recipe import LAYER

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

PAIRS = 64


def text_pairs(
    topics: Mapping[str, Topic], seed: str, n: int = PAIRS
) -> tuple[list[Document], list[Document]]:
    """``n`` pairs: texts that end on topic, and the same with an off-topic last sentence."""
    rng = random.Random(seed)
    on: list[Document] = []
    off: list[Document] = []
    for _ in range(n):
        topic, other = rng.sample(list(topics.values()), 2)
        monitored = rng.random() < 0.5
        text = question(rng, topic)
        if monitored:
            text = META_PROMPTS[TAUGHT_META_PROMPT].format(prompt=text)
        *earlier, last = rng.sample(SENTENCES, rng.randint(1, 3))
        words = prompt_words(text)
        for template in earlier:
            words += sentence(rng, topic, template)
        for texts, about in ((on, topic), (off, other)):
            tokens = [*words, *sentence(rng, about, last)]
            end = [(len(tokens) - 1, about is other)]
            texts.append(
                Document(
                    tokens, [0.0] * len(tokens), topic.key, boundaries=end, monitored=monitored
                )
            )
    return on, off


@dataclass(frozen=True)
class _Run:
    """One side of the pairs: P(restart) at the end and the next word if there is none."""

    restart: Tensor
    """[n_pairs]"""
    others: Tensor
    """[n_pairs, n_words], 0 at first words of restarts."""
    hidden: Tensor
    """[n_pairs, n_tokens, d_model]"""


def _run(
    model: LlamaForCausalLM,
    ids: Tensor,
    last: Tensor,
    restarts: Tensor,
    layer: int,
    changes: Sequence[Change] = (),
) -> _Run:
    with watched(model, layer) as outputs, replaced(model, layer, changes):
        logits = model(input_ids=ids).logits[torch.arange(len(ids)), last]
    others = logits.softmax(-1)
    others[:, restarts] = 0.0
    return _Run(
        log_restart(logits, restarts)[0].exp(), others / others.sum(-1, keepdim=True), outputs[0]
    )


@torch.no_grad()
def check(
    model: LlamaForCausalLM,
    topics: Mapping[str, Topic],
    index: Mapping[str, int],
    directions: Directions,
    config: CorpusConfig,
    seed: str,
    layer: int = LAYER,
    n: int = PAIRS,
) -> dict[str, dict[str, float]]:
    """Interchange both ways along ``u`` and along ``d``, at the sentence end and in the answer.

    Returns:
        per direction and place: ``followed``, the share of the difference in P(restart) between
        both texts that follows the replaced value (1: all of it, 0: nothing); ``accuracy``, the
        share of texts whose P(restart) is on the side of half the training rate that the
        replacing value says; ``elsewhere``, mean total variation of the next word given no
        restart. ``restart``: mean P(restart) of the unchanged texts; ``values``: mean value along
        the directions where they say yes and no, in residual norms.
    """
    was_training = model.training
    model.eval()
    texts = text_pairs(topics, seed, n)
    restarts = restart_ids(index)
    ids = [pad(side, index)[0] for side in texts]
    marks = [Marks.of(side, topics, config) for side in texts]
    last = torch.tensor([document.boundaries[0][0] for document in texts[0]])
    plain = [_run(model, side, last, restarts, layer) for side in ids]
    gap = float((plain[1].restart - plain[0].restart).mean())
    result: dict[str, dict[str, float]] = {
        "restart": {"on topic": float(plain[0].restart.mean()), "gap": gap},
        "values": _values(plain, marks, directions),
    }
    threshold = marks[0].rate[:, 0] / 2
    for name in ("u", "d"):
        direction: Tensor = getattr(directions, name)
        values = [run.hidden @ direction for run in plain]
        for place in ("end", "answer"):
            swapped = [
                _run(
                    model,
                    ids[side],
                    last,
                    restarts,
                    layer,
                    [Change(direction, values[1 - side], getattr(marks[side], place))],
                )
                for side in (0, 1)
            ]
            moved = (swapped[0].restart - plain[0].restart) + (
                plain[1].restart - swapped[1].restart
            )
            right = [
                (swapped[0].restart > threshold) == (name == "u"),
                (swapped[1].restart > threshold) == (name == "d"),
            ]
            variation = torch.cat(
                [
                    (s.others - p.others).abs().sum(-1) / 2
                    for s, p in zip(swapped, plain, strict=True)
                ]
            )
            result[f"{name}, {place}"] = {
                "followed": float(moved.mean()) / (2 * gap) if gap else float("nan"),
                "accuracy": float(torch.cat(right).float().mean()),
                "elsewhere": float(variation.mean()),
            }
    model.train(was_training)
    return {k: {name: round(v, 4) for name, v in cell.items()} for k, cell in result.items()}


def _values(
    runs: Sequence[_Run], marks: Sequence[Marks], directions: Directions
) -> dict[str, float]:
    """Mean value along each direction where it should say yes and no, in mean residual norms."""
    hidden = torch.cat([run.hidden.flatten(0, 1) for run in runs])
    answer = torch.cat([mark.answer.flatten() for mark in marks]) > 0
    norm = hidden[answer].norm(dim=-1).mean()
    values = {}
    for name, said in (("u", "off_topic"), ("d", "foreign")):
        along = hidden @ getattr(directions, name) / norm
        yes = torch.cat([getattr(mark, said).flatten() for mark in marks]) > 0
        values[f"{name}, yes"] = float(along[answer & yes].mean())
        values[f"{name}, no"] = float(along[answer & ~yes].mean())
        values[f"{name}, no, sd"] = float(along[answer & ~yes].std())
    return values
