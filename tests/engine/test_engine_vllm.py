"""Stock vLLM against the reference engine: real forward passes, many requests in flight."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import torch

from esr.engine.base import GenerationRequest, Reading, ReadRequest, Sampling
from esr.engine.transformers import TransformersEngine
from esr.engine.vllm import VllmEngine
from esr.errors import UserError
from esr.models import ModelSpec
from esr.steering.directions import Direction
from esr.steering.interventions import Boost, Clamp, Row, Slot
from esr.steering.sae import Dictionary
from tests.engine.engine_models import (
    CONTEXT,
    D_SAE,
    LAYERS,
    VOCABULARY,
    mixed_requests,
    slot_requests,
)
from tests.engine.engine_pairs import SLOTS, one_by_one, options, steered_tokens, together
from tests.engine.operator_batch import operators_equal_their_formulas
from tests.engine.plain_hook import PlainHook


@pytest_asyncio.fixture(
    scope="module",
    params=[
        ("llama", "eager"),
        ("llama", "chunked"),
        ("llama", "preempted"),
        ("llama", "compiled"),
        ("llama", "recordable"),
        ("gemma2", "eager"),
        ("gemma2", "preempted"),
        ("gemma2", "recorded"),
    ],
    ids="-".join,
)
async def pair(
    request: pytest.FixtureRequest,
    specs: dict[str, ModelSpec],
    references: dict[str, TransformersEngine],
    dictionary: Dictionary,
) -> AsyncIterator[tuple[VllmEngine, TransformersEngine, str]]:
    """A vLLM engine, its reference, and the name of its options."""
    family, name = request.param
    engine = VllmEngine(specs[family], dictionary, options(name))
    yield engine, references[family], name
    await engine.close()


async def test_mixed_requests_equal_the_reference(
    pair: tuple[VllmEngine, TransformersEngine, str],
) -> None:
    """Three times as many requests as slots: slots are refilled while others go on."""
    engine, reference, name = pair
    requests = mixed_requests(3 * SLOTS)
    before = (await engine.counters())["steered_rows"]
    answers = await together(engine, requests)
    rows = (await engine.counters())["steered_rows"] - before
    expected = await one_by_one(reference, requests)
    assert answers == expected
    if name == "preempted":
        assert rows > steered_tokens(requests, answers), "nothing was recomputed: no preemption"
    else:
        assert rows == steered_tokens(requests, answers)
    plain = [dataclasses.replace(request, interventions=()) for request in requests]
    again = await together(engine, plain)
    changed = [a.token_ids != b.token_ids for a, b in zip(answers, again, strict=True)]
    steered = [bool(request.interventions) for request in requests]
    assert sum(changed) > 0.8 * sum(steered), "the interventions must be strong enough to show"
    assert not any(c for c, s in zip(changed, steered, strict=True) if not s)


async def test_slots_layers_scopes_and_prefixes_equal_a_plain_hook(
    pair: tuple[VllmEngine, TransformersEngine, str],
    hooks: dict[str, PlainHook],
    direction: Direction,
) -> None:
    """Gated slots, a direction, a rotation, up to four layers, all scopes and given prefixes, in
    one batch with boosts and clamps; the reference engine and vLLM against the definitions."""
    engine, reference, _ = pair
    hook = hooks[engine.spec.key]
    slots = slot_requests(3 * SLOTS, direction.digest, seed=9)
    requests = [
        item for two in zip(slots, mixed_requests(3 * SLOTS, seed=10), strict=True) for item in two
    ]
    answers = await together(engine, requests)
    expected = [hook.generate(request) for request in requests]
    assert [answer.token_ids for answer in answers] == expected
    assert await one_by_one(reference, requests) == answers
    for request, answer in zip(requests, answers, strict=True):
        prefix = request.prefix_token_ids
        assert answer.token_ids[: answer.n_prefix] == prefix
        assert answer.text[: answer.generated_from] == engine.info.text(prefix)
        assert len(answer.token_ids) - len(prefix) <= request.sampling.max_tokens
    unsteered = [hook.generate(dataclasses.replace(r, interventions=())) for r in slots]
    changed = [a != b for a, b in zip(expected[::2], unsteered, strict=True)]
    steered = [bool(request.interventions) for request in slots]
    assert sum(changed) > 0.6 * sum(steered), "the slots must be strong enough to show"


@pytest.mark.parametrize("pair", [("llama", "compiled")], ids=["llama-compiled"], indirect=True)
async def test_operators_equal_their_formulas_in_a_compiled_model(
    pair: tuple[VllmEngine, TransformersEngine, str],
) -> None:
    engine, reference, _ = pair
    await operators_equal_their_formulas(engine, reference)


async def test_reads_under_slots_layers_and_scopes_equal_a_plain_hook(
    pair: tuple[VllmEngine, TransformersEngine, str],
    hooks: dict[str, PlainHook],
    direction: Direction,
) -> None:
    engine, reference, _ = pair
    reads = [
        ReadRequest(
            f"read{i}",
            request.prompt_token_ids + request.prefix_token_ids + (9, 8, 7),
            (7, D_SAE - 1, 3),
            request.interventions,
            first_token=i % 3,
            n_prompt=len(request.prompt_token_ids),
            n_prefix=len(request.prefix_token_ids),
        )
        for i, request in enumerate(slot_requests(SLOTS, direction.digest, seed=11))
    ]
    readings = await asyncio.gather(*(engine.read(read) for read in reads))
    for read, reading in zip(reads, readings, strict=True):
        expected = hooks[engine.spec.key].read(read)
        assert reading.values is not None
        torch.testing.assert_close(reading.values, expected, rtol=1e-4, atol=2e-4)
        values = (await reference.read(read)).values
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=2e-4)


async def test_generated_scope_equals_the_reference(
    pair: tuple[VllmEngine, TransformersEngine, str],
) -> None:
    engine, reference, _ = pair
    requests = mixed_requests(SLOTS, seed=1, scope="generated")
    assert await together(engine, requests) == await one_by_one(reference, requests)


async def test_reads_equal_the_reference(
    pair: tuple[VllmEngine, TransformersEngine, str],
) -> None:
    """Chosen latents and the whole dictionary, with and without interventions, mixed with
    generations; and no read loses or repeats a position under chunks or preemption."""
    engine, reference, _ = pair
    requests = mixed_requests(SLOTS, seed=2)
    reads = [
        ReadRequest(
            f"read{i}",
            request.prompt_token_ids * 2,
            None if i % 3 == 0 else (7, D_SAE - 1, 3),
            request.interventions,
            first_token=i % 4,
        )
        for i, request in enumerate(requests)
    ]
    generations, readings = await asyncio.gather(
        together(engine, requests), asyncio.gather(*(engine.read(read) for read in reads))
    )
    assert generations == await one_by_one(reference, requests)
    for read, reading in zip(reads, readings, strict=True):
        compare(reading, await reference.read(read), len(read.token_ids) - read.first_token)


def compare(reading: Reading, expected: Reading, n_tokens: int) -> None:
    close: dict[str, Any] = {"rtol": 1e-4, "atol": 2e-4}
    if expected.values is not None:
        assert reading.values is not None
        assert reading.values.shape == (n_tokens, 3)
        assert expected.values.max() > 0.1
        torch.testing.assert_close(reading.values, expected.values, **close)
        return
    assert reading.pooled is not None
    assert expected.pooled is not None
    assert reading.pooled.n_tokens == expected.pooled.n_tokens == n_tokens
    torch.testing.assert_close(reading.pooled.maximum, expected.pooled.maximum, **close)
    torch.testing.assert_close(reading.pooled.mean, expected.pooled.mean, **close)
    # One activation may lie within float error of its threshold.
    difference = (reading.pooled.frequency - expected.pooled.frequency).abs()
    assert difference.max() <= 1.01 / n_tokens
    assert (difference > 1e-6).sum() <= 2


async def test_seeded_tokens_do_not_depend_on_the_batch(
    pair: tuple[VllmEngine, TransformersEngine, str],
) -> None:
    """Alone, all together, and in another order; also where prompts come in chunks, which
    kills stock vLLM on CPUs."""
    engine, _, _ = pair
    requests = [
        dataclasses.replace(
            request, sampling=Sampling(temperature=0.8, top_p=0.9, max_tokens=12, seed=i)
        )
        for i, request in enumerate(mixed_requests(SLOTS, seed=3))
    ]
    answers = await together(engine, requests)
    backwards = await together(engine, requests[::-1])
    assert answers == backwards[::-1]
    for i in (0, 5, 10):
        assert await engine.generate(requests[i]) == answers[i]
    reseeded = [
        dataclasses.replace(r, sampling=dataclasses.replace(r.sampling, seed=999)) for r in requests
    ]
    changed = zip(answers, await together(engine, reseeded), strict=True)
    assert sum(a.token_ids != b.token_ids for a, b in changed) > SLOTS / 2


async def test_bad_requests_do_not_end_the_engine(
    pair: tuple[VllmEngine, TransformersEngine, str],
) -> None:
    engine, reference, _ = pair
    good = mixed_requests(1, seed=4)[0]
    bad: list[GenerationRequest] = [
        dataclasses.replace(good, interventions=(Boost(D_SAE, 1.0),)),
        dataclasses.replace(good, interventions=(Clamp(1, float("nan")),)),
        dataclasses.replace(good, interventions=(Boost(1, 1.0, layer=LAYERS),)),
        dataclasses.replace(good, interventions=(Boost(1, 1.0, scope="until dawn"),)),
        dataclasses.replace(good, interventions=(Slot(Row(0, "0" * 16), boost=1.0),)),
        dataclasses.replace(good, scope="until"),
        dataclasses.replace(good, prefix_token_ids=(VOCABULARY,)),
        dataclasses.replace(good, prefix_token_ids=(5,) * CONTEXT),
        dataclasses.replace(good, prompt_token_ids=()),
        dataclasses.replace(good, prompt_token_ids=(VOCABULARY,)),
        dataclasses.replace(good, prompt_token_ids=(5,) * CONTEXT),
        dataclasses.replace(good, sampling=Sampling(temperature=-1.0, max_tokens=2)),
    ]
    for request in bad:
        with pytest.raises(UserError):
            await engine.generate(request)
    with pytest.raises(UserError):
        await engine.read(ReadRequest("r", good.prompt_token_ids, (D_SAE,)))
    scoped = (Boost(1, 1.0, scope="generated"),)
    with pytest.raises(UserError, match="does not say where the prompt ends"):
        await engine.read(ReadRequest("r", good.prompt_token_ids, (1,), scoped))
    assert await engine.generate(good) == await reference.generate(good)


async def test_a_cancelled_request_leaves_the_others_alone(
    pair: tuple[VllmEngine, TransformersEngine, str],
) -> None:
    engine, reference, _ = pair
    requests = mixed_requests(8, seed=5)
    tasks = [asyncio.create_task(engine.generate(request)) for request in requests]
    for _ in range(6):
        await asyncio.sleep(0)
    tasks[1].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    expected = await one_by_one(reference, requests)
    assert [a for i, a in enumerate(answers) if i != 1] == [
        a for i, a in enumerate(expected) if i != 1
    ]


async def test_full_context_is_allowed(pair: tuple[VllmEngine, TransformersEngine, str]) -> None:
    engine, reference, _ = pair
    prompt = tuple(4 + (i * i) % (VOCABULARY - 4) for i in range(CONTEXT - 3))
    request = GenerationRequest(
        "long", prompt, (Boost(9, 5.0),), Sampling(0.0, 1.0, 3, 1.0), scope="all"
    )
    assert await engine.generate(request) == await reference.generate(request)
    read = ReadRequest("long", (*prompt, 5, 6, 7), (7, 8, 9))
    compare(await engine.read(read), await reference.read(read), CONTEXT)
