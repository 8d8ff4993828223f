"""A batch of all operators, each against its formula on a plain hook."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import torch

from esr.engine.base import GenerationRequest, Sampling
from esr.engine.transformers import TransformersEngine
from esr.engine.vllm import VllmEngine
from esr.steering.interventions import Boost, Clamp, Intervention
from esr.steering.layers import decoder_layers, residual_of, with_residual
from esr.steering.operators import Steer
from tests.engine.engine_models import D_MODEL, D_SAE, LAYERS, VOCABULARY
from tests.engine.formulas import FORMULAS, numbers

NUMBERS = {layer: numbers(D_MODEL, 6.0, seed=layer) for layer in range(LAYERS)}
N_TOKENS = 12


def plain_greedy(
    model: Any, prompt: tuple[int, ...], operator: str, layers: tuple[int, ...], only_new: bool
) -> tuple[int, ...]:
    """Greedy tokens under the formula, on a hook that knows nothing of ours; no cache."""
    formula, strength = FORMULAS[operator]

    def hook(layer: int) -> Any:
        def change(_module: Any, _args: Any, output: Any) -> Any:
            stream = residual_of(output).clone()
            first = len(prompt) if only_new else 0
            stream[0, first:] = formula(stream[0, first:], NUMBERS[layer], strength)
            return with_residual(output, stream)

        return change

    stack = decoder_layers(model, LAYERS)
    handles = [stack[layer].register_forward_hook(hook(layer)) for layer in layers]
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(N_TOKENS):
            logits = model(torch.tensor([tokens]), use_cache=False).logits
            tokens.append(int(logits[0, -1].argmax()))
            if tokens[-1] == 2:
                break
    for handle in handles:
        handle.remove()
    return tuple(tokens[len(prompt) :])


def steer(operator: str, layers: tuple[int, ...], scope: str) -> tuple[Intervention, ...]:
    strength = FORMULAS[operator][1]
    return tuple(
        slot
        for layer in layers
        for slot in Steer(NUMBERS[layer].direction(layer), operator, strength, scope=scope)
    )


def request(name: str, prompt: tuple[int, ...], steered: tuple[Any, ...]) -> GenerationRequest:
    greedy = Sampling(temperature=0.0, max_tokens=N_TOKENS, repetition_penalty=1.0)
    return GenerationRequest(name, prompt, steered, greedy)


async def operators_equal_their_formulas(engine: VllmEngine, reference: TransformersEngine) -> None:
    """All operators, on one layer and on two, prompt and response or response alone, in one batch
    with boosts, clamps and unsteered requests; both engines have a hook at every layer."""
    rng = random.Random(3)
    requests, expected = [], []
    for operator in FORMULAS:
        for layers, scope in (((1,), "all"), ((1, 2), "all"), ((2,), "generated")):
            prompt = tuple(rng.randrange(4, VOCABULARY) for _ in range(rng.randint(3, 50)))
            name = f"{operator} {layers} {scope}"
            requests.append(request(name, prompt, steer(operator, layers, scope)))
            tokens = plain_greedy(reference.model, prompt, operator, layers, scope == "generated")
            expected.append(tokens)
            latent = rng.randrange(D_SAE)
            for other in ((), (Boost(latent, 9.0),), (Clamp(latent, 2.0), Boost(3, 5.0))):
                requests.append(request(f"{name} {len(other)}", prompt, other))
    answers = await asyncio.gather(*(engine.generate(item) for item in requests))
    alone = [await reference.generate(item) for item in requests]
    steered = answers[::4]
    assert [a.token_ids for a in steered] == expected
    assert list(answers) == alone
    unsteered = answers[1::4]
    changed = sum(a.token_ids != b.token_ids for a, b in zip(steered, unsteered, strict=True))
    assert changed >= 0.8 * len(steered), "the operators must be strong enough to show"
