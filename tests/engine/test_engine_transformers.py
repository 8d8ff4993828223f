"""The reference engine against plain Hugging Face and against the formulas, by hand."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from esr.engine.base import GenerationRequest, ReadRequest, Sampling
from esr.engine.transformers import TransformersEngine, nucleus, penalise
from esr.errors import EngineError, UserError
from esr.models import ModelSpec
from esr.steering.interventions import Boost, Clamp
from esr.steering.sae import Dictionary
from tests.engine.engine_models import CONTEXT, D_SAE, VOCABULARY, mixed_requests

PROMPT = tuple(range(50, 80))


async def test_without_interventions_equals_plain_generate(
    references: dict[str, TransformersEngine], specs: dict[str, ModelSpec], family: str
) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        specs[family].hf_id, dtype=torch.float32, attn_implementation="eager"
    )
    for request in mixed_requests(6):
        plain = dataclasses.replace(request, interventions=())
        expected = model.generate(
            torch.tensor([plain.prompt_token_ids]),
            attention_mask=torch.ones(1, len(plain.prompt_token_ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=plain.sampling.max_tokens,
            repetition_penalty=plain.sampling.repetition_penalty,
            pad_token_id=0,
        )[0, len(plain.prompt_token_ids) :]
        assert (await references[family].generate(plain)).token_ids == tuple(expected.tolist())


async def test_read_is_the_encoded_hidden_state(
    references: dict[str, TransformersEngine],
    specs: dict[str, ModelSpec],
    dictionary: Dictionary,
    family: str,
) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        specs[family].hf_id, dtype=torch.float32, attn_implementation="eager"
    )
    with torch.inference_mode():
        states = model(torch.tensor([PROMPT]), output_hidden_states=True).hidden_states
    residual = states[specs[family].feature_layer + 1][0]
    latents = (3, 250, 17)
    expected = dictionary.bank(latents).encode(residual)
    reading = await references[family].read(ReadRequest("a", PROMPT, latents, first_token=4))
    torch.testing.assert_close(reading.values, expected[4:], rtol=1e-5, atol=1e-5)
    everything = dictionary.bank(range(D_SAE)).encode(residual)
    pooled = (await references[family].read(ReadRequest("b", PROMPT))).pooled
    assert pooled is not None
    assert pooled.n_tokens == len(PROMPT)
    torch.testing.assert_close(pooled.maximum, everything.amax(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled.mean, everything.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled.frequency, (everything > 0).float().mean(0))


async def test_boost_and_clamp_reach_the_next_layer(
    specs: dict[str, ModelSpec], dictionary: Dictionary
) -> None:
    """Read at the steering layer: the stream itself shows what was added."""
    spec = dataclasses.replace(specs["llama"], steering_layer=1, feature_layer=1)
    engine = TransformersEngine(spec, dictionary)
    row = dictionary.bank([8])
    before = (await engine.read(ReadRequest("a", PROMPT, (8, 9)))).values
    boosted = (await engine.read(ReadRequest("b", PROMPT, (8, 9), (Boost(8, 6.0),)))).values
    assert before is not None
    assert boosted is not None
    gain = float(row.encoder[0] @ row.decoder[0])
    active = (before[:, 0] > 0) & (boosted[:, 0] > 0)
    assert active.any()
    torch.testing.assert_close(
        (boosted - before)[active, 0],
        torch.full((int(active.sum()),), 6.0 * gain),
        rtol=1e-4,
        atol=1e-4,
    )
    assert (boosted[:, 0] > before[:, 0]).any()
    ablated = (await engine.read(ReadRequest("c", PROMPT, (8,), (Clamp(8),)))).values
    assert ablated is not None
    expected = before[:, 0] * (1 - gain)
    on = (before[:, 0] > 0) & (ablated[:, 0] > 0)
    torch.testing.assert_close(ablated[on, 0], expected[on], rtol=1e-3, atol=1e-3)


async def test_generated_scope_leaves_the_prompt_alone(
    references: dict[str, TransformersEngine],
) -> None:
    engine = references["llama"]
    sampling = Sampling(temperature=0.0, max_tokens=8, repetition_penalty=1.0)
    boost = (Boost(5, 30.0),)
    plain = await engine.generate(GenerationRequest("a", PROMPT, (), sampling))
    late = await engine.generate(GenerationRequest("b", PROMPT, boost, sampling, "generated"))
    full = await engine.generate(GenerationRequest("c", PROMPT, boost, sampling))
    # The first token is drawn from the prompt's last position, which is unsteered.
    assert late.token_ids[0] == plain.token_ids[0]
    assert late.token_ids[1:] != plain.token_ids[1:]
    assert full.token_ids[0] != plain.token_ids[0]


async def test_a_closed_engine_says_so(specs: dict[str, ModelSpec], dictionary: Dictionary) -> None:
    engine = TransformersEngine(specs["llama"], dictionary)
    request = GenerationRequest("a", PROMPT, (), Sampling(temperature=0.0, max_tokens=4))
    running = [asyncio.create_task(engine.generate(request)) for _ in range(3)]
    await asyncio.sleep(0)
    await engine.close()
    await engine.close()
    answers = await asyncio.gather(*running, return_exceptions=True)
    assert any(isinstance(answer, EngineError) for answer in answers)
    assert not any(isinstance(answer, AttributeError) for answer in answers)
    with pytest.raises(EngineError, match=r"^the engine was closed$"):
        await engine.read(ReadRequest("r", PROMPT))


async def test_seeds_repeat_and_differ(references: dict[str, TransformersEngine]) -> None:
    engine = references["llama"]

    async def run(seed: int) -> tuple[int, ...]:
        sampling = Sampling(temperature=1.0, max_tokens=12, seed=seed)
        return (await engine.generate(GenerationRequest("a", PROMPT, (), sampling))).token_ids

    assert await run(1) == await run(1)
    assert len({await run(seed) for seed in range(5)}) == 5


def test_penalty_and_nucleus_by_hand() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0])
    assert penalise(logits, torch.tensor([0, 1, 1]), 2.0).tolist() == [1.0, -4.0, 1.0]
    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    kept = nucleus(probabilities.log(), 0.7)
    torch.testing.assert_close(kept, torch.tensor([0.625, 0.375, 0.0, 0.0]))
    torch.testing.assert_close(nucleus(probabilities.log(), 1.0), probabilities)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "latent": ({"interventions": (Boost(D_SAE, 1.0),)}, f"latent {D_SAE}"),
    "infinite": ({"interventions": (Boost(1, float("inf")),)}, "inf"),
    "nan value": ({"interventions": (Clamp(1, float("nan")),)}, "nan"),
    "huge": ({"interventions": (Boost(1, -1e30),)}, r"-1e\+30; allowed: -1e\+06 to 1e\+06"),
    "empty": ({"prompt_token_ids": ()}, "empty prompt"),
    "token": ({"prompt_token_ids": (VOCABULARY,)}, f"token id {VOCABULARY}"),
    "long": ({"prompt_token_ids": (5,) * CONTEXT}, "context"),
    "temperature": ({"sampling": Sampling(temperature=-1.0)}, "temperature"),
    "nan": ({"sampling": Sampling(temperature=float("nan"))}, "temperature"),
    "seed": ({"sampling": Sampling(seed=-1)}, "seed"),
    "max_tokens": ({"sampling": Sampling(max_tokens=0)}, "max_tokens"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_requests_get_one_line(
    references: dict[str, TransformersEngine], name: str
) -> None:
    change, message = BAD[name]
    good = GenerationRequest("a", PROMPT, (), Sampling(temperature=0.0, max_tokens=2))
    with pytest.raises(UserError, match=message):
        await references["llama"].generate(dataclasses.replace(good, **change))


@pytest.mark.parametrize(
    "change", [{"latents": (D_SAE,)}, {"latents": ()}, {"first_token": 30}, {"token_ids": ()}]
)
async def test_bad_reads_get_one_line(
    references: dict[str, TransformersEngine], change: dict[str, Any]
) -> None:
    with pytest.raises(UserError):
        await references["llama"].read(
            dataclasses.replace(ReadRequest("a", PROMPT, (1,)), **change)
        )


def test_bad_models_and_layers_get_one_line(
    specs: dict[str, ModelSpec], dictionary: Dictionary, tmp_path: Path
) -> None:
    spec = specs["llama"]
    with pytest.raises(UserError, match="steering layer 4"):
        TransformersEngine(dataclasses.replace(spec, steering_layer=4), dictionary)
    with pytest.raises(UserError, match=r"model folder .*nothing does not exist"):
        TransformersEngine(dataclasses.replace(spec, hf_id=str(tmp_path / "nothing")), dictionary)
