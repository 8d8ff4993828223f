"""Two replicas over Ray, real forward passes in each: one, both, or the driver is killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from esr import models
from esr.engine import cluster, replicas
from esr.engine.base import Engine, GenerationRequest, ReadRequest, Sampling
from esr.engine.replicas import ReplicatedEngine
from esr.engine.transformers import TransformersEngine
from esr.errors import EngineError, UserError
from esr.models import ModelSpec
from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialSpec
from esr.pipeline.trials import run_trials
from esr.runs.folder import RunFolder
from esr.steering import sae
from esr.steering.interventions import Boost
from esr.steering.sae import Dictionary
from tests import scripted
from tests.engine.engine_models import VOCABULARY
from tests.engine.light_engines import Fatal

N_TRIALS = 24
KILL_AFTER = 6
NOT_NICE = ("RAY_worker_niceness", "0")
"""Ray's workers are nice to others; beside another test process they would hardly run."""


@pytest.fixture(scope="module")
def _one_ray() -> Iterator[None]:
    """Ray as an engine starts it, once for all tests here."""
    import ray
    from ray._common.usage.usage_lib import usage_stats_enabled

    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(*NOT_NICE)
        cluster.start_ray(2)
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


async def process_of(member: replicas._Member) -> int:
    pid: int = await member.actor.__ray_call__.remote(lambda _: os.getpid())
    return pid


async def kill_when_busy(engine: ReplicatedEngine, folder: Path, victims: int) -> int:
    """SIGKILL the processes of the first replicas once some generations are on disk."""
    members = engine._members[:victims]
    pids = [await process_of(member) for member in members]
    journal = run_folder(folder).path / "journal.jsonl"
    while not (
        journal.is_file()
        and len(generations(folder)) >= KILL_AFTER
        and all(member.in_flight for member in members)
    ):
        await asyncio.sleep(0.02)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return len(generations(folder))


@pytest_asyncio.fixture
async def expected(
    references: dict[str, TransformersEngine], tmp_path: Path
) -> dict[str, list[int]]:
    """What one engine alone generates: token ids by key."""
    folder = tmp_path / "alone"
    folder.mkdir()
    await run(references["llama"], folder)
    return dict(generations(folder))


async def run_and_kill(engine: ReplicatedEngine, folder: Path, victims: int) -> None:
    """A whole run, in the middle of which the first replicas are killed; all work at its end."""
    folder.mkdir()
    before = [await process_of(member) for member in engine._members]
    killer = asyncio.create_task(kill_when_busy(engine, folder, victims))
    await run(engine, folder)
    assert KILL_AFTER <= await killer < N_TRIALS, "the replicas must be killed in the middle"
    await asyncio.wait_for(asyncio.gather(*engine._restarts.values()), 120)
    assert [member.lost for member in engine._members] == [False, False]
    after = [await process_of(member) for member in engine._members]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, victims == 1]


@pytest.mark.usefixtures("_one_ray")
async def test_killed_replicas_lose_nothing_and_work_again(
    specs: dict[str, ModelSpec],
    dictionary: Dictionary,
    references: dict[str, TransformersEngine],
    expected: dict[str, list[int]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of two in a first run; both, the one started again among them, in a second."""
    monkeypatch.setattr(replicas, "RESTART_AFTER", (0.1, 1.0))
    make = partial(TransformersEngine, specs["llama"], dictionary)
    engine = ReplicatedEngine(make, replicas=2, in_flight=8)
    try:
        assert engine.describe()["replicas"] == 2
        for victims in (1, 2):
            await run_and_kill(engine, tmp_path / str(victims), victims)
            told = capsys.readouterr().err
            assert [told.count(f"replica {i} is lost") for i in range(2)] == [1, victims - 1]
            assert [told.count(f"replica {i} works again") for i in range(2)] == [1, victims - 1]
            lines = generations(tmp_path / str(victims))
            assert max(Counter(key for key, _ in lines).values()) == 1
            assert dict(lines) == expected
            assert len(lines) == N_TRIALS

        # The new actor answers as the old one did; a refused request costs no replica.
        member = engine._members[0]
        read = ReadRequest("r", tuple(range(4, 20)), (3, 7))
        ours = await member.actor.call.remote("read", read)
        theirs = await references["llama"].read(read)
        assert ours.values.allclose(theirs.values, atol=1e-5)
        with pytest.raises(UserError, match="an empty prompt"):
            await engine.generate(GenerationRequest("empty", ()))
        assert [member.lost for member in engine._members] == [False, False]
    finally:
        await engine.close()


@pytest.mark.usefixtures("_one_ray")
async def test_a_request_that_ends_engines_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replicas, "RESTART_AFTER", (0.1, 0.1, 0.1))
    engine = ReplicatedEngine(partial(Fatal, tmp_path), replicas=1)
    try:
        with pytest.raises(EngineError, match=r"^3 engines ended with request fatal in flight: "):
            await engine.generate(GenerationRequest("fatal", (4, 5)))
    finally:
        await engine.close()


@pytest.mark.usefixtures("_one_ray")
async def test_a_replica_that_does_not_start_again_is_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model is gone: requests that wait for it are told, and later ones at once."""
    monkeypatch.setattr(replicas, "RESTART_AFTER", (0.1, 0.1))
    file = tmp_path / "model"
    file.touch()
    engine = ReplicatedEngine(partial(Fatal, file), replicas=1)
    try:
        file.unlink()
        for _ in range(2):
            with pytest.raises(EngineError, match=r"^all replicas are lost: "):
                await engine.generate(GenerationRequest("r", (4, 5)))
    finally:
        await engine.close()
    told = capsys.readouterr().err
    assert told.count(f"does not start again ({file} is gone)") == 2
    assert told.count("replica 0 is given up") == 1


DRIVER = """
import asyncio, sys
from functools import partial
from pathlib import Path
from esr import models
from esr.engine.replicas import ReplicatedEngine
from esr.engine.transformers import TransformersEngine
from esr.steering import sae
from tests.engine import test_engine_replicas as tests
spec = models.get("tiny")
make = partial(TransformersEngine, spec, sae.load(spec.sae))
engine = ReplicatedEngine(make, replicas=2, in_flight=8)
asyncio.run(tests.run(engine, Path(sys.argv[1])))
asyncio.run(engine.close())
"""


@pytest.mark.usefixtures("_one_ray")
async def test_a_killed_driver_leaves_no_process_and_loses_nothing(tmp_path: Path) -> None:
    """Two replicas of the organism; one engine goes on where the killed run was."""
    command = [sys.executable, "-c", DRIVER, str(tmp_path)]
    environment = {name: v for name, v in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= dict([NOT_NICE])
    journal = run_folder(tmp_path).path / "journal.jsonl"
    with subprocess.Popen(command, env=environment) as driver:
        while not (journal.is_file() and len(generations(tmp_path)) >= KILL_AFTER):
            assert driver.poll() is None
            time.sleep(0.05)
        started = psutil.Process(driver.pid).children(recursive=True)  # The watcher among them.
        assert sum("ray::Replica" in " ".join(p.cmdline()) for p in started) == 2
        driver.kill()
        killed = time.monotonic()
    at_kill = dict(generations(tmp_path))
    _, left = psutil.wait_procs(started, timeout=60)
    assert not left
    assert time.monotonic() - killed < 30
    assert KILL_AFTER <= len(at_kill) < N_TRIALS, "the driver must be killed in the middle"
    spec = models.get("tiny")
    engine = TransformersEngine(spec, sae.load(spec.sae))
    await run(engine, tmp_path)
    await engine.close()
    lines = generations(tmp_path)
    times = Counter(key for key, _ in lines)
    assert (len(times), set(times.values())) == (N_TRIALS, {1}), "every generation exactly once"
    assert at_kill.items() <= dict(lines).items()


@pytest.mark.usefixtures("_one_ray")
def test_a_replica_that_does_not_start_is_one_line() -> None:
    """The reason crosses the process border as one line."""
    make: Any = partial(models.get, "70c")
    with pytest.raises(UserError, match=r"^unknown model '70c'; allowed: 70b, 8b"):
        ReplicatedEngine(make, replicas=1)


@pytest.mark.usefixtures("_one_ray")
def test_too_few_resources_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """All together too few, or no machine that holds one engine: then with the memory plan."""
    monkeypatch.setattr(cluster, "WAIT_FOR_RESOURCES", 1.0)
    make: Any = partial(models.get, "70c")
    with pytest.raises(UserError, match=r"99 replicas need \{'CPU': 1\} each, and there are"):
        ReplicatedEngine(make, replicas=99)
    needs = "70b split over 16 needs at least 9.99 GiB of each GPU"
    told = (
        r"a replica needs \{'CPU': 1, 'GPU': 16\} on one machine, and the largest has "
        rf"\{{'CPU': \d+, 'GPU': 0\}}; {needs}; allowed: an engine within one machine"
    )
    with pytest.raises(UserError, match=told):
        ReplicatedEngine(make, replicas=2, gpus=16, needs=needs)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "127.0.0.1:port"])
def test_a_cluster_that_does_not_answer_is_one_line_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(UserError, match=f"no Ray cluster answers at RAY_ADDRESS={address}"):
        cluster.start_ray(1)
    assert time.monotonic() - began < 2 * cluster.ANSWER_SECONDS
