"""Engines of their own: what prefix caching may share, closing, and the faulty pairing."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import cast

import pytest

from esr.engine import vllm as client
from esr.engine.base import GenerationRequest, ReadRequest, Sampling
from esr.engine.options import VllmOptions
from esr.engine.transformers import TransformersEngine
from esr.engine.vllm import VllmEngine
from esr.errors import EngineError
from esr.models import ModelSpec
from esr.steering.interventions import Boost, Clamp
from esr.steering.sae import Dictionary
from tests.engine.engine_models import (
    mixed_requests,
)
from tests.engine.engine_pairs import SLOTS, one_by_one, options, steered_tokens, together


@pytest.mark.parametrize("salted", [True, False])
async def test_steered_and_unsteered_never_share_cached_tokens(
    specs: dict[str, ModelSpec],
    dictionary: Dictionary,
    monkeypatch: pytest.MonkeyPatch,
    salted: bool,
) -> None:
    """Steering at layer 0 makes sharing visible: without the salt the tokens do change."""
    spec = dataclasses.replace(specs["llama"], steering_layer=0)
    reference = TransformersEngine(spec, dictionary)
    engine = VllmEngine(spec, dictionary, options("eager"))
    if not salted:
        monkeypatch.setattr(client, "_salt", lambda *_: None)
    prompt = tuple(range(100, 200))
    sampling = Sampling(temperature=0.0, max_tokens=16, repetition_penalty=1.0)
    kinds = [
        (Boost(5, 9.0),),
        (),
        (Boost(6, 9.0),),
        (Boost(5, 9.0), Clamp(8)),
        (),
        (Boost(5, 9.0),),
    ]
    requests = [GenerationRequest(f"c{i}", prompt, k, sampling) for i, k in enumerate(kinds)]
    requests.append(GenerationRequest("late", prompt, kinds[0], sampling, "generated"))
    before = (await engine.counters())["steered_rows"]
    answers = [await engine.generate(request) for request in requests]
    rows = (await engine.counters())["steered_rows"] - before
    await engine.close()
    expected = await one_by_one(reference, requests)
    wrong = sum(a.token_ids != b.token_ids for a, b in zip(answers, expected, strict=True))
    if salted:
        assert wrong == 0
        # The last repeats the first: only then is the cache used, so fewer rows were computed.
        assert rows < steered_tokens(requests[:-1], answers[:-1]) + 15
    else:
        assert wrong > 0


async def test_a_prompt_that_continues_a_steered_response_is_not_taken_from_the_cache(
    specs: dict[str, ModelSpec], dictionary: Dictionary
) -> None:
    """Scope "generated": the same tokens with the same interventions, once as a response, which
    is steered, once as a prompt, which is not."""
    spec = dataclasses.replace(specs["llama"], steering_layer=0)
    reference = TransformersEngine(spec, dictionary)
    engine = VllmEngine(spec, dictionary, options("eager"))
    sampling = Sampling(temperature=0.0, max_tokens=60, repetition_penalty=1.0)
    boost = (Boost(5, 9.0),)
    first = GenerationRequest("a", tuple(range(100, 140)), boost, sampling, "generated")
    response = (await engine.generate(first)).token_ids
    assert len(response) == 60
    follow = GenerationRequest(
        "b",
        first.prompt_token_ids + response,
        boost,
        dataclasses.replace(sampling, max_tokens=16),
        "generated",
    )
    answer = await engine.generate(follow)
    await engine.close()
    expected = await reference.generate(follow)
    assert answer.token_ids == expected.token_ids
    steered = await reference.generate(dataclasses.replace(follow, scope="all"))
    assert steered.token_ids != expected.token_ids, "steering the prompt must show"


async def test_closing_ends_what_is_in_flight(
    specs: dict[str, ModelSpec], dictionary: Dictionary
) -> None:
    engine = VllmEngine(specs["llama"], dictionary, options("eager"))
    requests = mixed_requests(8, seed=12)
    running = [asyncio.create_task(engine.generate(request)) for request in requests]
    await asyncio.sleep(0.01)
    await asyncio.wait_for(engine.close(), 30)
    for answer in await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 30):
        with pytest.raises(EngineError, match=r"^the engine was closed$"):
            raise cast("BaseException", answer)
    await engine.close()
    with pytest.raises(EngineError, match=r"^the engine was closed$"):
        await engine.generate(requests[0])
    with pytest.raises(EngineError, match=r"^the engine was closed$"):
        await engine.read(ReadRequest("r", (5, 6, 7)))


async def test_scheduler_order_gives_requests_the_interventions_of_others(
    specs: dict[str, ModelSpec],
    dictionary: Dictionary,
    references: dict[str, TransformersEngine],
) -> None:
    """The authors' fault, as an explicit arm; alone in its batch a request is still right."""
    options = VllmOptions(SLOTS, pairing="scheduler-order", in_process=True)
    engine = VllmEngine(specs["llama"], dictionary, options)
    assert engine.describe()["pairing"] == "scheduler-order"
    assert VllmOptions().pairing == "request-id"
    sampling = Sampling(temperature=0.0, max_tokens=24, repetition_penalty=1.0)
    requests = [
        dataclasses.replace(
            request,
            interventions=(Boost(i, 8.0),),
            sampling=dataclasses.replace(sampling, max_tokens=4 + 5 * (i % 5)),
        )
        for i, request in enumerate(mixed_requests(3 * SLOTS, seed=6))
    ]
    expected = await one_by_one(references["llama"], requests)
    alone = [await engine.generate(request) for request in requests[:4]]
    answers = await together(engine, requests)
    await engine.close()
    assert engine.describe()["runner"] == "v1", "a closed engine can still be described"
    assert [dataclasses.replace(answer, pairing=None) for answer in alone] == expected[:4]
    for request, answer in zip(requests[:4], alone, strict=True):
        rows = len(request.prompt_token_ids) + len(answer.token_ids) - 1
        assert answer.pairing == {"own": rows, "other": 0, "none": 0}, "each token once"
    counts = [answer.pairing or {} for answer in answers]
    assert sum(c["other"] for c in counts) > sum(c["own"] for c in counts) / 3
    for answer, right, count in zip(answers, expected, counts, strict=True):
        # Who was never steered by another says what it says alone.
        if not count["other"] + count["none"]:
            assert answer.token_ids == right.token_ids
    wrong = sum(a.token_ids != b.token_ids for a, b in zip(answers, expected, strict=True))
    assert wrong > len(requests) / 3
