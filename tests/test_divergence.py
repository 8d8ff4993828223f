"""Divergence from the unsteered model: the estimator by hand, and the search for a target."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from esr.engine.base import Generation, GenerationRequest, Reading, ReadRequest
from esr.pipeline import divergence
from esr.steering.interventions import Boost
from tests import scripted


class PeakedEngine(scripted.ScriptedEngine):
    """Draws 4 tokens of log-probability -1 where steered and -1 - boost / 10 where not."""

    async def generate(self, request: GenerationRequest) -> Generation:
        self.calls += 1
        assert request.sampling.temperature == 1.0
        assert request.sampling.repetition_penalty == 1.0
        (boost,) = request.interventions
        assert isinstance(boost, Boost)
        tokens = (round(boost.value), 1, 2, 3)
        return Generation(request.request_id, tokens, "text", "length")

    async def read(self, request: ReadRequest) -> Reading:
        assert request.logprobs
        n = len(request.token_ids) - request.first_token
        assert n == 4
        boost = request.token_ids[request.first_token]
        value = -1.0 if request.interventions else -1.0 - boost / 10
        return Reading(request.request_id, logprobs=torch.full((n,), value))


async def test_the_divergence_is_the_mean_log_ratio_of_drawn_tokens(tmp_path: Path) -> None:
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        engine = PeakedEngine(tmp_path / "calls.log")

        async def start() -> PeakedEngine:
            return engine

        context.start_engine = start
        result = await divergence.measure(context, 3, "subject 3", (Boost(3, 5.0),))
        calls = engine.calls
        again = await divergence.measure(context, 3, "subject 3", (Boost(3, 5.0),))
        assert engine.calls == calls, "journaled"
    assert result.nats == pytest.approx(0.5)
    assert result.error == pytest.approx(0.0)
    assert result.tokens == 8 * 4, "the prompt set has eight prompts"
    assert again == result


def test_all_strengths_share_their_draws(tmp_path: Path) -> None:
    with scripted.open_run(tmp_path) as run:
        context = scripted.context(run, tmp_path)
        one, other = (divergence.draws(context, latent, "x") for latent in (3, 4))
        assert divergence.draws(context, 3, "x") == one
    assert len({spec.sampling.seed for spec in (*one, *other)}) == 16
    assert {spec.sampling.max_tokens for spec in one} == {32}


@pytest.mark.parametrize("start", [1.0, 3.0, 30.0])
async def test_the_search_ends_near_the_target(start: float) -> None:
    async def square(value: float) -> float:
        return value * value / 100

    found = await divergence.match(square, target=0.5, start=start, high=100)
    assert found.value is not None
    assert abs(found.nats - 0.5) <= 0.25 * 0.5
    assert found.nats == pytest.approx(found.value**2 / 100)
    assert len(found.steps) <= divergence.STEPS


async def test_a_target_out_of_reach_says_how_near_it_came() -> None:
    async def bounded(value: float) -> float:
        return 1 - math.exp(-value)

    found = await divergence.match(bounded, target=3.0, start=1, high=8)
    assert found.value is None
    assert found.error == "divergence: 1 nats at 8 is as near as it comes to 3"
    assert [step[0] for step in found.steps] == [1, 2, 4, 8]
