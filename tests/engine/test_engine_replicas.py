"""Two replicas over Ray, real forward passes in each; one of them is killed in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from esr import models
from esr.engine import replicas
from esr.engine.base import Engine, GenerationRequest, ReadRequest, Sampling
from esr.engine.replicas import ReplicatedEngine
from esr.engine.transformers import TransformersEngine
from esr.errors import UserError
from esr.models import ModelSpec
from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialSpec
from esr.pipeline.trials import run_trials
from esr.runs.folder import RunFolder
from esr.steering.interventions import Boost
from esr.steering.sae import Dictionary
from tests import scripted
from tests.engine.engine_models import VOCABULARY

N_TRIALS = 40
KILL_AFTER = 10


@pytest.fixture(scope="module")
def _one_ray() -> Iterator[None]:
    """Ray as an engine starts it, once for all tests here."""
    import ray
    from ray._common.usage.usage_lib import usage_stats_enabled

    replicas._start_ray(2)
    assert not usage_stats_enabled()
    yield
    ray.shutdown()


class Chat(scripted.ScriptedChat):
    """One token per character, within the vocabulary of the small model."""

    def prompt_ids(self, prompt: str) -> tuple[int, ...]:
        return tuple(ord(c) % VOCABULARY for c in prompt)


def trial(number: int) -> TrialSpec:
    return TrialSpec(
        arm="steered",
        trial_id=str(number),
        latent=number,
        latent_label="thing",
        threshold=6.0,
        prompt_id="p",
        prompt=f"How do I do thing {number}?",
        interventions=(Boost(number, 6.0),),
        sampling=Sampling(max_tokens=24, seed=number),
    )


def run_folder(folder: Path) -> RunFolder:
    return RunFolder.locate(folder, "experiment", "llama", {"seed": 0})


async def run(engine: Engine, folder: Path) -> RunContext:
    """All trials through one engine; returns the closed context with its journal on disk."""

    async def start() -> Engine:
        return engine

    with run_folder(folder) as opened:
        context = scripted.context(opened, folder, in_flight=8)
        context.start_engine, context.chat = start, Chat()
        records = await run_trials([trial(i) for i in range(N_TRIALS)], context)
    assert len(records) == N_TRIALS
    return context


def generations(folder: Path) -> list[tuple[str, Any]]:
    """(key, token ids) of every generation line, in the order written."""
    lines = (run_folder(folder).path / "journal.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    return [(e["key"], e["value"]["token_ids"]) for e in found if e["kind"] == "generation"]


async def kill_when_busy(engine: ReplicatedEngine, folder: Path) -> int:
    """SIGKILL the process of the first replica once some generations are on disk."""
    victim = engine._members[0]
    pid = await victim.actor.__ray_call__.remote(lambda _: os.getpid())
    journal = run_folder(folder).path / "journal.jsonl"
    while not (journal.is_file() and len(generations(folder)) >= KILL_AFTER and victim.in_flight):
        await asyncio.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    return len(generations(folder))


@pytest.mark.usefixtures("_one_ray")
async def test_a_killed_replica_loses_nothing(
    specs: dict[str, ModelSpec],
    dictionary: Dictionary,
    references: dict[str, TransformersEngine],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    for folder in (alone, shared):
        folder.mkdir()
    await run(references["llama"], alone)

    make = partial(TransformersEngine, specs["llama"], dictionary)
    engine = ReplicatedEngine(make, replicas=2, in_flight=8)
    try:
        assert engine.describe()["replicas"] == 2
        killer = asyncio.create_task(kill_when_busy(engine, shared))
        await run(engine, shared)
        at_kill = await killer
        assert [member.lost for member in engine._members] == [True, False]

        # A refused request is refused once, and costs no replica.
        empty = GenerationRequest("empty", ())
        with pytest.raises(UserError, match="an empty prompt"):
            await engine.generate(empty)
        assert [member.lost for member in engine._members] == [True, False]

        read = ReadRequest("r", tuple(range(4, 20)), (3, 7))
        ours, theirs = await engine.read(read), await references["llama"].read(read)
        assert ours.values is not None
        assert theirs.values is not None
        assert ours.values.allclose(theirs.values, atol=1e-5)
    finally:
        await engine.close()

    assert KILL_AFTER <= at_kill < N_TRIALS, "the replica must be killed in the middle"
    assert "replica 0 is lost" in capsys.readouterr().err
    lines = generations(shared)
    assert max(Counter(key for key, _ in lines).values()) == 1
    assert dict(lines) == dict(generations(alone))
    assert len(lines) == N_TRIALS


@pytest.mark.usefixtures("_one_ray")
def test_a_replica_that_does_not_start_is_one_line() -> None:
    """The reason crosses the process border as one line."""
    make: Any = partial(models.get, "70c")
    with pytest.raises(UserError, match=r"^unknown model '70c'; allowed: 70b, 8b"):
        ReplicatedEngine(make, replicas=1)


@pytest.mark.usefixtures("_one_ray")
def test_too_few_resources_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "WAIT_FOR_RESOURCES", 1.0)
    make: Any = partial(models.get, "70c")
    with pytest.raises(UserError, match=r"2 replicas need \{'CPU': 1, 'GPU': 4\} each"):
        ReplicatedEngine(make, replicas=2, gpus=4)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:port"])
def test_a_cluster_that_does_not_answer_is_one_line_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at RAY_ADDRESS={address}"):
        replicas._start_ray(1)
    assert time.monotonic() - began < 2 * replicas.ANSWER_SECONDS
