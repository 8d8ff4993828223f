"""Which latents of a dictionary carry a planted direction: the truth that a search is held to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from esr.organism.circuit_checks import text_pairs
from esr.organism.corpus import CorpusConfig
from esr.organism.interchange import Directions, Marks, watched
from esr.organism.lexicon import Topic
from esr.organism.perturbations import pad
from esr.organism.recipe import LAYER

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

LEAST = 0.1
"""Least share of what a direction says for a latent to count as its carrier."""


@torch.no_grad()
def shares(
    model: LlamaForCausalLM,
    sae: Any,
    topics: Mapping[str, Topic],
    index: Mapping[str, int],
    directions: Directions,
    seed: str,
    layer: int = LAYER,
    n: int = 300,
) -> dict[str, dict[int, float]]:
    """How much of what each direction says stands in each latent.

    What a direction says is the difference of the values along it between a text that ends off
    topic and its on-topic twin: for ``u`` at the sentence end, for ``d`` at the foreign words. A
    latent's part of it is the difference of its activations times its decoder row along the
    direction.

    Returns:
        per direction, latent -> share of the whole, the largest first; shares below 0.01 left out.
    """
    sides = text_pairs(topics, seed, n)
    marks = Marks.of(sides[1], topics, CorpusConfig())
    hidden = []
    for side in sides:
        with watched(model, layer) as outputs:
            model(input_ids=pad(side, index)[0])
        hidden.append(outputs[0])
    result = {}
    for name, places in (("u", marks.end), ("d", marks.foreign)):
        direction: Tensor = getattr(directions, name)
        there = places > 0
        on, off = (states[there] for states in hidden)
        whole = float(((off - on) @ direction).mean())
        active = (sae.encode(off) - sae.encode(on)).mean(0)
        parts = active * (sae.W_dec @ direction) / whole
        order = parts.argsort(descending=True).tolist()
        result[name] = {k: round(float(parts[k]), 4) for k in order if parts[k] >= 0.01}
    return result
