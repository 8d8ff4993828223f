"""Operators, states and probabilities on vLLM and on the reference, against plain hooks."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import torch
from torch import Tensor

from esr.engine.base import ReadRequest
from esr.engine.options import VllmOptions
from esr.engine.transformers import TransformersEngine
from esr.engine.vllm import VllmEngine
from esr.errors import UserError
from esr.models import ModelSpec
from esr.steering.interventions import Boost
from esr.steering.operators import Steer
from esr.steering.sae import Dictionary
from tests.engine.engine_models import D_MODEL, LAYERS, VOCABULARY
from tests.engine.formulas import FORMULAS, numbers
from tests.engine.operator_batch import (
    NUMBERS,
    operators_equal_their_formulas,
    request,
    steer,
)

Pair = tuple[VllmEngine, TransformersEngine]


@pytest_asyncio.fixture(
    scope="module",
    params=[("llama", 24), ("gemma2", None)],
    ids=("llama-chunked", "gemma2"),
)
async def pair(
    request: pytest.FixtureRequest, specs: dict[str, ModelSpec], dictionary: Dictionary
) -> AsyncIterator[Pair]:
    """vLLM and the reference, both with a hook at every layer."""
    family, chunk = request.param
    layers = tuple(range(LAYERS))
    options = VllmOptions(16, in_process=True, max_batched_tokens=chunk, layers=layers)
    engine = VllmEngine(specs[family], dictionary, options)
    yield engine, TransformersEngine(specs[family], dictionary, layers)
    await engine.close()


async def test_every_operator_in_one_batch_equals_its_formula_token_for_token(pair: Pair) -> None:
    await operators_equal_their_formulas(*pair)


async def test_an_operator_and_a_boost_act_on_the_same_layer(pair: Pair) -> None:
    """Both read the stream that reaches the layer: the boost is not what the operator sees."""
    engine, reference = pair
    both = (*steer("sttp", (1,), "all"), Boost(7, 10.0))
    item = request("both", tuple(range(5, 25)), both)
    assert await engine.generate(item) == await reference.generate(item)


def hidden_states(reference: TransformersEngine, tokens: tuple[int, ...]) -> Any:
    with torch.inference_mode():
        return reference.model(torch.tensor([tokens]), output_hidden_states=True)


async def test_states_are_the_residual_stream(pair: Pair) -> None:
    engine, reference = pair
    tokens = tuple(random.Random(5).randrange(4, VOCABULARY) for _ in range(60))
    output = hidden_states(reference, tokens)
    for layer in (0, 2):
        stream = output.hidden_states[layer + 1][0, 7:]
        expected: dict[str, Tensor] = {
            "mean": stream.mean(0, keepdim=True),
            "last": stream[-1:],
            "all": stream,
        }
        for states, value in expected.items():
            read = ReadRequest("r", tokens, first_token=7, states=states, layer=layer)  # type: ignore[arg-type]
            for one in (engine, reference):
                reading = await one.read(read)
                assert reading.states is not None
                torch.testing.assert_close(reading.states, value, rtol=1e-4, atol=1e-4)


async def test_states_are_read_after_the_interventions(pair: Pair) -> None:
    engine, reference = pair
    tokens = tuple(range(10, 40))
    before = (await engine.read(ReadRequest("a", tokens, states="all", layer=1))).states
    steered = ReadRequest("b", tokens, None, steer("pin", (1,), "all"), states="all", layer=1)
    after = (await engine.read(steered)).states
    assert before is not None
    assert after is not None
    formula, strength = FORMULAS["pin"]
    torch.testing.assert_close(after, formula(before, NUMBERS[1], strength), rtol=1e-4, atol=1e-4)
    same = (await reference.read(steered)).states
    assert same is not None
    torch.testing.assert_close(after, same, rtol=1e-4, atol=1e-4)


async def test_logprobs_are_those_of_the_text(pair: Pair) -> None:
    engine, reference = pair
    tokens = tuple(random.Random(6).randrange(4, VOCABULARY) for _ in range(50))
    logits = hidden_states(reference, tokens).logits[0].log_softmax(-1)
    expected = torch.stack([logits[i - 1, tokens[i]] for i in range(20, 50)])
    plain = ReadRequest("p", tokens, first_token=20, logprobs=True)
    steered = ReadRequest("s", tokens, None, (Boost(7, 10.0),), first_token=20, logprobs=True)
    for one in (engine, reference):
        reading = await one.read(plain)
        assert reading.logprobs is not None
        torch.testing.assert_close(reading.logprobs, expected, rtol=1e-4, atol=1e-4)
    ours, theirs = (await engine.read(steered)).logprobs, (await reference.read(steered)).logprobs
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert (ours - expected).abs().max() > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"states": "median"}, "unknown states 'median'"),
        ({"states": "mean", "logprobs": True}, "several kinds"),
        ({"states": "mean", "latents": (1,)}, "several kinds"),
        ({"layer": 1}, "a layer for a read of no states"),
        ({"logprobs": True}, "first token"),
        ({"states": "mean", "layer": 9}, "layer 9 is not hooked"),
    ],
)
async def test_bad_reads_get_one_line(
    options: dict[str, Any], message: str, references: dict[str, TransformersEngine]
) -> None:
    with pytest.raises(UserError, match=message):
        await references["llama"].read(ReadRequest("r", (5, 6, 7), **options))


async def test_bad_directions_get_one_line(references: dict[str, TransformersEngine]) -> None:
    reference = references["llama"]
    narrow = numbers(D_MODEL - 1, 1.0).direction(1)
    for slots, message in (
        (Steer(narrow, "sttp", 4.0).slots, f"width {D_MODEL - 1}"),
        (Steer(numbers(D_MODEL, 1.0).direction(9), "sttp").slots, "layer 9 is not hooked"),
    ):
        with pytest.raises(UserError, match=message):
            await reference.generate(request("r", (5, 6, 7), slots))
