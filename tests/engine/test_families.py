"""Families whose layers return their stream in every known way, in vLLM and with a plain hook;
and what the engine refuses before its first request."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esr.engine.options import VllmOptions
from esr.engine.vllm import VllmEngine
from esr.errors import UserError
from esr.models import ModelSpec
from esr.steering import kernel, plan, stream
from esr.steering.sae import Dictionary
from tests.engine.engine_models import build_dictionary, mixed_requests
from tests.engine.families import DOCUMENT, build, compare
from tests.engine.family_configs import D_MODEL, FAMILIES

# Each kind of return, and vLLM's Transformers backend beside its own classes.
SOME = {
    "stablelm": (stream.FIRST, "StablelmForCausalLM"),
    "olmo2": (stream.STREAM, "TransformersForCausalLM"),
    "gpt2": (stream.STREAM, "GPT2LMHeadModel"),
    "qwen3-moe": (stream.SUM, "Qwen3MoeForCausalLM"),
}


@pytest.mark.parametrize("family", SOME)
async def test_mixed_batches_equal_the_plain_hook(family: str, tmp_path: Path) -> None:
    outcome = await compare(family, tmp_path)
    assert (outcome.returns, outcome.architecture) == SOME[family]
    assert outcome.fine, outcome
    assert outcome.power > 0.7 * outcome.steered, "the interventions must be strong enough to show"


def test_every_family_stands_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    families = re.findall(r"^\| ([\w.-]+) \|", text, re.MULTILINE)
    assert sorted(set(families) - {"family"}) == sorted(FAMILIES)
    equal = re.findall(r"^\| [\w.-]+ \|.*\| 30/30 \|", text, re.MULTILINE)
    assert len(equal) >= 24


def stale_half_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the pair were Llama's."""
    results = stream.StreamProbe.results

    def believed(probe: stream.StreamProbe) -> stream.Streams:
        forms, norms, problem = results(probe)
        return dict.fromkeys(forms, stream.SUM), norms, problem

    monkeypatch.setattr(stream.StreamProbe, "results", believed)


def one_per_cent_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def more(stream: Tensor, *rest: Any) -> Tensor:
        return stream + 1.01 * (kernel.steer(stream, *rest) - stream)

    monkeypatch.setattr(plan, "steer", more)


def rows_of_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    touch = plan.Block.touch

    def shifted(block: plan.Block, hidden: Tensor, residual: Tensor | None) -> None:
        rows = (torch.arange(10**4)[block.rows] - 1).clamp(min=0)
        touch(dataclasses.replace(block, rows=rows), hidden, residual)

    monkeypatch.setattr(plan.Block, "touch", shifted)


@pytest.fixture(scope="module")
def stablelm(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelSpec, Dictionary]:
    folder = tmp_path_factory.mktemp("stablelm")
    spec = build("stablelm", folder / "model")
    return spec, build_dictionary(folder / "rows.safetensors", D_MODEL)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (stale_half_added, "a boost of 0 changes [1-6] of 6 greedy answers"),
        (one_per_cent_more, "a boost moves the stream by something else"),
        (rows_of_a_neighbour, "a boost moves the stream by something else"),
    ],
)
async def test_a_model_that_is_steered_wrongly_is_refused(
    fault: Callable[[pytest.MonkeyPatch], None],
    message: str,
    stablelm: tuple[ModelSpec, Dictionary],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)
    engine = VllmEngine(*stablelm, VllmOptions(16, in_process=True))
    try:
        for request in mixed_requests(2):
            with pytest.raises(UserError, match=f"^stablelm cannot be steered .*({message})"):
                await engine.generate(request)
    finally:
        await engine.close()
