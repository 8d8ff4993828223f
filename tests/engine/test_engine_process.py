"""vLLM in a process of its own, on one rank and on two, and what a failed start says."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import torch

from esr.engine import create, vllm_config
from esr.engine.base import ReadRequest, Sampling
from esr.engine.options import VllmOptions
from esr.engine.transformers import TransformersEngine
from esr.engine.vllm import VllmEngine
from esr.errors import EngineError, UserError, run_command
from esr.models import ModelSpec
from esr.steering.sae import Dictionary
from tests.engine.engine_models import mixed_requests


@pytest_asyncio.fixture(scope="module", params=[1, 2])
async def engine(
    request: pytest.FixtureRequest, specs: dict[str, ModelSpec], dictionary: Dictionary
) -> AsyncIterator[VllmEngine]:
    ranks = request.param
    if len(os.sched_getaffinity(0)) < ranks:
        pytest.skip(f"{ranks} ranks need {ranks} cores")
    started = VllmEngine(specs["llama"], dictionary, VllmOptions(16, tensor_parallel=ranks))
    yield started
    await started.close()


async def test_generations_and_reads_equal_the_reference(
    engine: VllmEngine, references: dict[str, TransformersEngine]
) -> None:
    reference = references["llama"]
    requests = mixed_requests(40, seed=8)
    answers = await asyncio.gather(*(engine.generate(request) for request in requests))
    assert list(answers) == [await reference.generate(request) for request in requests]
    for latents in ((3, 299), None):
        read = ReadRequest("r", tuple(range(20, 90)), latents, requests[1].interventions, 5)
        ours, theirs = await engine.read(read), await reference.read(read)
        if latents:
            torch.testing.assert_close(ours.values, theirs.values, rtol=1e-4, atol=2e-4)
        else:
            assert ours.pooled is not None
            assert theirs.pooled is not None
            torch.testing.assert_close(
                ours.pooled.maximum, theirs.pooled.maximum, rtol=1e-4, atol=2e-4
            )


async def test_a_cancelled_read_leaves_nothing_behind(engine: VllmEngine) -> None:
    read = asyncio.create_task(engine.read(ReadRequest("r", tuple(range(4, 120)))))
    await asyncio.sleep(0.002)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    request = mixed_requests(2)[1]
    assert (await engine.generate(request)).token_ids


async def test_requests_in_flight_end_with_the_engine(
    engine: VllmEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    """One rank: vLLM's own process is killed. Two: a worker is; that is the cause, not its echo.
    A command then ends with one line and a status."""
    requests = [
        dataclasses.replace(r, sampling=Sampling(0.0, 1.0, 80)) for r in mixed_requests(24, seed=9)
    ]
    running: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(engine.generate(request)) for request in requests
    ]
    running.append(asyncio.ensure_future(engine.read(ReadRequest("r", tuple(range(4, 120))))))
    await asyncio.sleep(0.05)
    log = engine._log
    cause = f"^vLLM stopped: its process was ended from outside; see {log}$"
    victim = "EngineCore" if engine.options.tensor_parallel == 1 else "Worker"
    children = psutil.Process().children(recursive=True)
    next(process for process in children if victim in process.name()).kill()
    answers = await asyncio.wait_for(asyncio.gather(*running, return_exceptions=True), 60)
    ended = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(ended) >= 9, "the engine must end in the middle"
    for error in ended:
        with pytest.raises(EngineError, match=cause):
            raise error

    def command() -> None:
        raise ended[0]

    capsys.readouterr()
    assert run_command(command) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "repeat the command" in told
    await asyncio.wait_for(engine.close(), 60)
    assert log.exists(), "a message names it"
    log.unlink()
    with pytest.raises(EngineError, match="the engine was closed"):
        await engine.generate(requests[0])


CLIENT = """
import sys, time
sys.path.insert(0, {folder!r})
from pathlib import Path
from engine_models import build_dictionary, build_model
from esr.engine import create
if __name__ == "__main__":
    place = Path({place!r})
    create("vllm", build_model(place / "model", "llama"), build_dictionary(place / "rows"))
    print("ready", flush=True)
    time.sleep(600)
"""


def test_the_engine_ends_with_a_killed_client(tmp_path: Path) -> None:
    """kill -9 leaves no process of vLLM behind, which would hold the next run's memory."""
    script = tmp_path / "client.py"
    script.write_text(CLIENT.format(folder=str(Path(__file__).parent), place=str(tmp_path)))
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        started = psutil.Process(client.pid).children(recursive=True)
        assert started
        client.kill()
    _, left = psutil.wait_procs(started, timeout=60)
    assert not left


def test_too_little_memory_is_one_line(
    specs: dict[str, ModelSpec], dictionary: Dictionary, capfd: pytest.CaptureFixture[str]
) -> None:
    options = VllmOptions(4, kv_cache_bytes=2**50, in_process=True)
    with pytest.raises(UserError, match="not enough memory") as caught:
        VllmEngine(specs["llama"], dictionary, options)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


def test_a_refused_option_of_vllm_does_not_speak_of_logins(
    specs: dict[str, ModelSpec], dictionary: Dictionary
) -> None:
    spec = dataclasses.replace(specs["llama"], quantization="no-such-scheme")
    with pytest.raises(
        UserError, match=r"^vLLM does not start with llama: .*quantization"
    ) as caught:
        VllmEngine(spec, dictionary, VllmOptions(4, in_process=True))
    assert "login" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        (
            "(EngineCore pid=7) ERROR esr.errors.UserError: X has 2 stacks of 4 layers; next: y",
            r"^X has 2 stacks of 4 layers; next: y$",
        ),
        (
            "OSError: Cannot find any model weights with `x`",
            "llama cannot be loaded: OSError: Cannot find",
        ),
        ("ValidationError: 1 error\n  no such option", "^vLLM does not start with llama: .*option"),
    ],
)
def test_a_failed_start_says_why(
    specs: dict[str, ModelSpec], reason: str, message: str, tmp_path: Path
) -> None:
    error = vllm_config._start_failed(specs["llama"], reason, tmp_path / "log")
    with pytest.raises(UserError, match=message):
        raise error


def test_unknown_engine_and_pairing_are_one_line(
    specs: dict[str, ModelSpec], dictionary: Dictionary
) -> None:
    with pytest.raises(UserError, match="unknown engine 'vlm'"):
        create("vlm", specs["llama"], dictionary)
    with pytest.raises(UserError, match="pairing"):
        create("transformers", specs["llama"], dictionary, VllmOptions(pairing="scheduler-order"))


@pytest.mark.parametrize("quantised", [False, True])
def test_gpu_graphs_are_cut_at_the_hook(monkeypatch: pytest.MonkeyPatch, quantised: bool) -> None:
    """Needs no GPU: vLLM itself settles the configuration a GPU would get."""
    from vllm.config import CompilationConfig, CompilationMode, CUDAGraphMode

    monkeypatch.setattr(vllm_config, "on_cpu", lambda: False)
    settings = vllm_config._compilation(VllmOptions(compiled=True, in_graph=False))
    config = CompilationConfig(mode=CompilationMode.VLLM_COMPILE, **settings)
    if quantised and config.pass_config.fuse_attn_quant is None:
        config.pass_config.fuse_attn_quant = True
    config.set_splitting_ops_for_v1(all2all_backend="naive", data_parallel_size=1)
    assert config.splitting_ops is not None
    assert "esr::touch" in config.splitting_ops
    assert config.splitting_ops_contain_attention()
    assert config.cudagraph_mode == CUDAGraphMode.PIECEWISE


def test_gpu_graphs_span_the_model_where_steering_is_inside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default on GPUs: nothing of vLLM's own graphs is changed."""
    from vllm.config import CompilationConfig, CompilationMode

    assert not vllm_config.in_graph(VllmOptions(compiled=True)), "on CPUs there are no graphs"
    monkeypatch.setattr(vllm_config, "on_cpu", lambda: False)
    assert vllm_config.in_graph(VllmOptions())
    assert not vllm_config.in_graph(VllmOptions(compiled=False))
    settings = vllm_config._compilation(VllmOptions())
    assert settings == {}
    config = CompilationConfig(mode=CompilationMode.VLLM_COMPILE, **settings)
    config.set_splitting_ops_for_v1(all2all_backend="naive", data_parallel_size=1)
    assert "esr::touch" not in (config.splitting_ops or [])
