"""A vLLM engine with small limits, and the reference engine it is compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from esr.engine.base import Generation, GenerationRequest
from esr.engine.options import VllmOptions
from esr.engine.transformers import TransformersEngine
from esr.engine.vllm import VllmEngine
from tests.engine.engine_models import (
    LAYERS,
    MORE_LAYERS,
)

SLOTS = 16


BLOCK_BYTES = 2 * LAYERS * 2 * 32 * 4 * 32
"""Keys and values of 32 tokens: layers, 2 heads of width 32, 4 bytes."""


ENGINES: dict[str, dict[str, Any]] = {
    "eager": {},
    "chunked": {"max_batched_tokens": 24},
    "preempted": {"kv_cache_bytes": 16 * BLOCK_BYTES},
    "compiled": {"compiled": True},
    "recorded": {"compiled": True, "in_graph": True},
    "recordable": {"in_graph": True, "max_batched_tokens": 40},
}


def options(name: str) -> VllmOptions:
    return VllmOptions(SLOTS, in_process=True, layers=MORE_LAYERS, **ENGINES[name])


async def together(engine: VllmEngine, requests: Sequence[GenerationRequest]) -> list[Generation]:
    return list(await asyncio.gather(*(engine.generate(request) for request in requests)))


ANSWERS: dict[tuple[str, int, GenerationRequest], Generation] = {}
"""Of the reference engines, by model and steering layer: many are compared with the same."""


async def one_by_one(
    engine: TransformersEngine, requests: Sequence[GenerationRequest]
) -> list[Generation]:
    answers = []
    for request in requests:
        key = engine.spec.key, engine.spec.steering_layer, request
        if key not in ANSWERS:
            ANSWERS[key] = await engine.generate(request)
        answers.append(ANSWERS[key])
    return answers


def steered_tokens(requests: Sequence[GenerationRequest], answers: Sequence[Generation]) -> int:
    """Forward-pass rows that interventions of scope "all" at one layer touch; the last token is
    never fed."""
    return sum(
        len(request.prompt_token_ids) + len(answer.token_ids) - 1
        for request, answer in zip(requests, answers, strict=True)
        if request.interventions
    )
