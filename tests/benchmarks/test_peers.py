"""The peers generate what ours does, and the table says what was measured."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.peers import arms, measure, tables
from benchmarks.peers.arms import PEERS
from benchmarks.peers.command import COUNTS, arguments, sizes
from benchmarks.peers.plan import PACKAGES, STEERED, UNSTEERED, Sizes, installed
from benchmarks.peers.workload import Workload, same_tokens, workload
from esr.engine.base import GenerationRequest
from esr.engine.transformers import TransformersEngine
from tests.benchmarks.test_record import HEADING

SIZES = Sizes(requests=4, in_flight=3, prompt=6, tokens=8, rounds=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[measure.Model]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield measure.load("tiny", tmp_path_factory.mktemp("peers"))
    torch.set_num_threads(threads)


class Reference:
    """Our reference engine, as an arm: ours without vLLM."""

    def __init__(self, model: measure.Model) -> None:
        self.engine = TransformersEngine(model.spec, model.dictionary)
        self.engine.info = dataclasses.replace(self.engine.info, stop_token_ids=())
        self.version = "reference"

    def generate(self, work: Workload) -> arms.Tokens:
        ours = arms.Ours.__new__(arms.Ours)
        ours.steered = True
        requests: list[GenerationRequest] = ours._requests(work)

        async def in_turn() -> arms.Tokens:
            return [list((await self.engine.generate(r)).token_ids) for r in requests]

        with asyncio.Runner() as runner:
            return runner.run(in_turn())


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_gives_the_tokens_of_the_reference(name: str, model: measure.Model) -> None:
    """Batches that are not full, mixed lengths, and steering that changes every answer."""
    present, missing = installed([name])
    if missing:
        assert not present
        assert missing[0].startswith(f"{name} is left out: {PACKAGES[name]} is not installed")
        return
    work = model.work("mixed", SIZES, seed=1)
    peer = PEERS[name](model.huggingface, model.dictionary, model.spec.steering_layer, 3)
    tokens = peer.generate(work)
    assert [len(row) for row in tokens] == list(work.lengths)
    assert tokens == Reference(model).generate(work)
    # Half the stream's length moves the organism; without it agreement would say nothing.
    unsteered = peer.generate(Workload("", work.prompts, work.lengths, work.latents, 0.0))
    assert same_tokens(tokens, unsteered) < len(tokens)


def test_workloads(model: measure.Model) -> None:
    of = {"requests": 200, "prompt": 5, "tokens": 40, "seed": 3}
    equal = workload("equal", model.spec, 2.0, 100, **of)
    mixed = workload("mixed", model.spec, 2.0, 100, **of)
    assert set(equal.lengths) == {40}
    assert equal.prompts == mixed.prompts
    assert min(mixed.lengths) >= 10
    assert max(mixed.lengths) <= 70
    assert mixed.tokens / 200 == pytest.approx(40, rel=0.1)
    assert len(set(equal.latents)) == 200
    eight = workload("equal", model.spec, 2.0, 100, **of, distinct=8)
    assert sorted(set(eight.latents)) == list(range(8))
    assert [len(batch.prompts) for batch in eight.batches(64)] == [64, 64, 64, 8]
    vectors = eight.batches(64)[0].vectors(model.dictionary, torch.zeros(1))
    assert torch.equal(vectors[9, 0], 2.0 * model.dictionary.bank([1]).decoder[0])


def test_one_batch_for_distinct_configurations() -> None:
    assert sizes(arguments([])) == Sizes()
    assert sizes(arguments(["--distinct"])) == Sizes(requests=256, in_flight=256)
    assert sizes(arguments(["--distinct", "--requests", "8"])).requests == 8
    assert list(PEERS) == list(PACKAGES)
    assert COUNTS == (0, 1, 8, 32, 64, 128, 256)


def test_a_missing_peer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def absent(name: str) -> str:
        if name == "nnsight":
            raise importlib.metadata.PackageNotFoundError
        return version("pytest") if name == "steering-vectors" else version(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    present, missing = installed(list(PEERS))
    assert "nnsight" not in present
    assert len(present) == 3
    assert missing == [
        "nnsight is left out: nnsight is not installed; next: pip install --no-deps --target "
        ".peers -r benchmarks/peers/requirements.txt, and PYTHONPATH=.peers"
    ]


def test_rounds_alternate_and_count_what_was_asked_for() -> None:
    order: list[str] = []
    work = Workload("equal", ((1,), (2,)), (3, 4), (0, 1), 1.0)

    def arm(name: str) -> Any:
        def generate(given: Workload) -> arms.Tokens:
            order.append(name)
            return [[0] * n for n in given.lengths]

        return generate

    speeds = measure.rounds({n: arm(n) for n in "abc"}, lambda _: work, 3, "equal")
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert [len(runs) for runs in speeds.values()] == [3, 3, 3]


def result(**changes: Any) -> dict[str, Any]:
    runs = {
        UNSTEERED: [100.0, 110.0],
        STEERED: [100.0, 100.0],
        "Hugging Face batch, a hook": [125.0, 120.0],
        "nnsight": [50.0, 40.0],
    }
    mixed = {**runs, "Hugging Face batch, a hook": [50.0, 50.0]}
    return {
        "title": "tiny organism",
        "engine": {"dtype": "float32"},
        "sizes": {"requests": 4, "in_flight": 2, "prompt": 6, "tokens": 8, "rounds": 2},
        "versions": dict.fromkeys(runs, "x 1"),
        "agreement": {"requests": 8, "changed_by_steering": 7, "equal": {"nnsight": 8}},
        "runs": {"equal": runs, "mixed": mixed},
        **changes,
    }


def test_the_table_says_where_a_peer_is_ahead_and_why() -> None:
    text = tables.peers({**HEADING, "models": [result()], "missing": ["SAELens is left out"]})
    assert "| ours, a boost each | x 1 | 100 (100 to 100) |  | 100 (100 to 100) |  |" in text
    # Medians of 100 / 125 and 100 / 120, and of 100 / 50 twice.
    hugging = (
        "| Hugging Face batch, a hook | x 1 | 122 (120 to 125) | 0.82 | 50 (50 to 50) | 2.00 |"
    )
    assert hugging in text
    assert "| nnsight | x 1 | 45 (40 to 50) | 2.25 | 45 (40 to 50) | 2.25 |" in text
    assert (
        "Faster than ours: Hugging Face batch, a hook at equal lengths, 1.22 times. A static"
        in text
    )
    assert "steered requests, of which steering changes 7: nnsight 8 of 8." in text
    assert text.endswith("SAELens is left out")
    assert "load 0.1 before and 0.4 after" in text


def test_the_table_of_distinct_configurations() -> None:
    runs = {"0": [100.0, 200.0], "8": [90.0, 200.0], "256": [50.0, 100.0]}
    text = tables.distinct({**HEADING, "models": [result(runs=runs)]})
    assert "| 0 | 150 (100 to 200) | 1.000 |" in text
    assert "| 8 | 145 (90 to 200) | 0.950 |" in text
    assert "| 256 | 75 (50 to 100) | 0.500 |" in text
    assert "Not measured anew: `make peers`" in tables.distinct(None)
    assert Path("benchmarks/peers/requirements.txt").is_file()
