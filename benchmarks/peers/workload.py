"""What every arm is given: prompts of one length, response lengths, a latent per request."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from esr.models import ModelSpec
from esr.steering.sae import Dictionary


@dataclass(frozen=True)
class Workload:
    """Requests of one run; prompts are equally long, which favours static batches.

    Attributes:
        name: "equal" or "mixed", of the response lengths.
        prompts: [n, length] token ids.
        lengths: [n] tokens of each response; nothing stops earlier.
        latents: [n] the latent each request is boosted by.
        value: of all boosts.
    """

    name: str
    prompts: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]
    latents: tuple[int, ...]
    value: float

    @property
    def tokens(self) -> int:
        """Tokens that are asked for; what a static batch generates beyond is not counted."""
        return sum(self.lengths)

    def batches(self, size: int) -> list[Workload]:
        """Consecutive parts of at most ``size`` requests."""
        return [
            Workload(
                self.name,
                self.prompts[i : i + size],
                self.lengths[i : i + size],
                self.latents[i : i + size],
                self.value,
            )
            for i in range(0, len(self.prompts), size)
        ]

    def vectors(self, dictionary: Dictionary, like: Tensor) -> Tensor:
        """[n, 1, d_model]: what each request adds, on the device and in the dtype of ``like``."""
        rows = self.value * dictionary.bank(self.latents).decoder
        return rows[:, None].to(like.device, like.dtype)


def workload(
    name: str,
    spec: ModelSpec,
    value: float,
    vocabulary: int,
    *,
    requests: int,
    prompt: int,
    tokens: int,
    seed: int,
    distinct: int | None = None,
) -> Workload:
    """A run's requests.

    Args:
        name: "equal": all responses have ``tokens``; "mixed": between a quarter and seven
            quarters of that, uniformly, the same mean.
        spec: the model.
        value: of the boosts.
        vocabulary: of the model.
        requests: how many.
        prompt: tokens of a prompt.
        tokens: mean tokens of a response.
        seed: of prompts and lengths.
        distinct: latents that take turns; None: one for each request.
    """
    rng = random.Random(seed)
    prompts = tuple(
        tuple(rng.randrange(5, vocabulary) for _ in range(prompt)) for _ in range(requests)
    )
    low, high = max(1, tokens // 4), tokens * 7 // 4
    lengths = tuple(tokens if name == "equal" else rng.randint(low, high) for _ in range(requests))
    n = min(distinct or requests, spec.d_sae)
    latents = tuple(i % n for i in range(requests))
    return Workload(name, prompts, lengths, latents, value)


def strength(model: Any, layer: int, dictionary: Dictionary, vocabulary: int) -> float:
    """A boost half as long as the residual stream: enough to change what is generated.

    Args:
        model: Hugging Face's, of a Llama.
        layer: that steers.
        dictionary: whose decoder rows are added.
        vocabulary: of the model.
    """
    ids = torch.arange(5, min(69, vocabulary), device=model.device)[None]
    with torch.inference_mode():
        stream = model(ids, output_hidden_states=True).hidden_states[layer + 1]
    row = dictionary.bank(range(64)).decoder.norm(dim=1).median()
    return float(stream.norm(dim=-1).median() / row / 2)


def same_tokens(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> int:
    """On how many requests two arms agree in every token."""
    return sum(tuple(a) == tuple(b) for a, b in zip(ours, theirs, strict=True))
