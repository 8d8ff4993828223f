"""Drawing one token from logits, by the rules of vLLM's sampler."""

from __future__ import annotations

import torch
from torch import Tensor

from esr.engine.base import Sampling
from esr.engine.validation import GREEDY_BELOW


def draw(logits: Tensor, seen: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token: repetition penalty, then temperature, then top-p, then one draw.

    Args:
        logits: [vocabulary] float32; not modified.
        seen: [n_tokens] int64, prompt and response so far: what the penalty counts.
        sampling: of the request.
        generator: the request's own, seeded once.
    """
    logits = penalise(logits, seen, sampling.repetition_penalty)
    if sampling.temperature < GREEDY_BELOW:
        return int(logits.argmax())
    probabilities = nucleus(logits / sampling.temperature, sampling.top_p)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of ``seen`` tokens by ``penalty``."""
    chosen = logits[seen]
    scaled = torch.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits.scatter(0, seen, scaled)


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Probabilities with all but the smallest set of mass ``top_p`` set to 0: [vocabulary]."""
    probabilities = logits.softmax(-1)
    if top_p >= 1:
        return probabilities
    ordered, index = probabilities.sort(descending=False)
    outside = ordered.cumsum(-1) <= 1 - top_p
    outside[-1] = False
    probabilities = probabilities.scatter(0, index, ordered.masked_fill(outside, 0.0))
    return probabilities / probabilities.sum()
