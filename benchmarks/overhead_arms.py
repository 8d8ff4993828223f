"""The arms whose cost is measured, here and on GPUs: what each request of each gets."""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esr.engine.base import GenerationRequest
    from esr.engine.options import VllmOptions
    from esr.engine.vllm import VllmEngine
    from esr.models import ModelSpec
    from esr.steering.interventions import Intervention
    from esr.steering.sae import Dictionary

STOCK, NONE = "stock vLLM", "none steered"
GOALS = {
    NONE: 0.995,
    "boost": 0.98,
    "clamp": 0.98,
    "boost+26 clamps": 0.95,
    "200 latents": 0.85,
}
"""What each arm is to reach of the one it is compared with: ours, not a finding."""

OWN = 200
"""Latents at the end of the dictionary that no request has to itself."""


@dataclass(frozen=True)
class RunSizes:
    """Of one run: requests, mean tokens of a prompt and of a response."""

    requests: int
    prompt: int
    tokens: int


def reached(arm: str, ratio: float) -> str:
    """Whether a ratio reaches its arm's goal, for a table."""
    return "yes" if ratio >= GOALS[arm] else "**no**"


def never_stopping(spec: ModelSpec, dictionary: Dictionary, options: VllmOptions) -> VllmEngine:
    """An engine in which nothing stops a response before its cap."""
    from esr.engine.vllm import VllmEngine

    engine = VllmEngine(spec, dictionary, options)
    engine.info = dataclasses.replace(engine.info, stop_token_ids=())
    return engine


def requests(
    sizes: RunSizes, arm: str, spec: ModelSpec, vocabulary: int, seed: int
) -> list[GenerationRequest]:
    """One run's requests: the same prompts and lengths for every arm of a round."""
    from esr.engine.base import GenerationRequest, Sampling

    rng = random.Random(seed)
    batch = []
    for i in range(sizes.requests):
        length = rng.randint(sizes.prompt // 2, sizes.prompt * 3 // 2)
        tokens = rng.randint(sizes.tokens * 3 // 4, sizes.tokens * 5 // 4)
        prompt = tuple(rng.randrange(5, vocabulary) for _ in range(length))
        sampling = Sampling(temperature=0.6, max_tokens=tokens, repetition_penalty=1.0, seed=i)
        batch.append(GenerationRequest(f"{arm}{i}", prompt, interventions(arm, i, spec), sampling))
    return batch


def interventions(arm: str, i: int, spec: ModelSpec) -> tuple[Intervention, ...]:
    """Request ``i`` has latent ``i`` to itself; the other clamped latents are common to all."""
    from esr.steering.interventions import Boost, Clamp

    latent = i % (spec.d_sae - OWN)
    common = [Clamp(spec.d_sae - 1 - k) for k in range(OWN - 1)]
    kinds: dict[str, tuple[Intervention, ...]] = {
        STOCK: (),
        NONE: (),
        "boost": (Boost(latent, 1.0),),
        "clamp": (Clamp(latent, 1.0),),
        "boost+26 clamps": (Boost(latent, 1.0), *common[:26]),
        "200 latents": (Boost(latent, 1.0), *common),
    }
    return kinds[arm]
