"""The real command in a child process, with a stand-in engine; and how a child is hurt.

Replaced: the engine (text a function of seed and boost), the chat format, the size of the model's
calibration, the waits between tries of a call, and the two git commands of the provenance.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import gc
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from esr.engine.base import Generation, GenerationRequest, Reading, ReadRequest
from esr.judge import client
from esr.models import ModelSpec, chat, registry
from esr.pipeline import engines
from esr.pipeline.experiment import main
from esr.runs import journal, provenance
from esr.steering.interventions import Boost
from esr.steering.pooling import PooledReading
from experiment_01_esr.run import EXPERIMENT
from tests.scripted import ScriptedChat

PROMPTS = [f"How do I do thing {i}?" for i in range(6)]
ARGUMENTS = ["tiny", "--n-latents", "2", "--n-trials", "3", "--judge-concurrency", "4"]
Fault = Callable[[], None]
"""Applied in the child before the command starts."""


class StandIn:
    """Text fixed by seed and boost; every generation is logged before it is answered."""

    def __init__(self, log: Path) -> None:
        self._log = log

    async def generate(self, request: GenerationRequest) -> Generation:
        with self._log.open("a") as file:
            file.write(request.request_id + "\n")
        seed = request.sampling.seed
        boost = sum(i.value for i in request.interventions if isinstance(i, Boost))
        await asyncio.sleep(0.002 + 0.004 * (seed % 7) / 7)
        name = f"seed {seed} boost {boost:.4f}"
        drift = " off" * min(7, round(boost / 60))
        text = f"{name}{drift} answer {seed % 97}."
        if seed % 3 == 0 and boost:
            text += f" Wait, that is wrong. {name}{drift[:8]} answer {seed % 89}."
        return Generation(request.request_id, tuple(ord(c) for c in text), text, "stop")

    async def read(self, request: ReadRequest) -> Reading:
        active = (torch.arange(1024) % 2 == 0).float()
        pooled = PooledReading(active, active, active, len(request.token_ids))
        return Reading(request.request_id, pooled=pooled)

    def describe(self) -> dict[str, object]:
        return {"name": "stand-in"}

    async def close(self) -> None:
        return None


def prepare() -> None:
    """Put the stand-ins in place; in the process that all attempts are forked from."""
    torch.set_num_threads(1)
    tiny = registry.REGISTRY["tiny"]
    calibration = replace(tiny.calibration, rounds=3, prompts_per_round=2)
    known = cast("dict[str, ModelSpec]", registry.REGISTRY)
    known["tiny"] = replace(tiny, calibration=calibration)

    async def start_engine(*_: Any) -> StandIn:
        return StandIn(Path(os.environ["FAULTS_ENGINE_LOG"]))

    here = provenance.collect()
    replacements: list[tuple[Any, str, Any]] = [
        (engines, "start_engine", start_engine),
        (chat, "load", lambda *_: ScriptedChat()),
        (client, "_wait", lambda _: 0.01),
        (provenance, "collect", lambda: here),
    ]
    for module, name, value in replacements:
        assert hasattr(module, name)
        setattr(module, name, value)


@dataclass(frozen=True)
class Place:
    """Where one run lives.

    Attributes:
        root: its folder; logs lie here.
        name: of the run at the judge.
        url: of the judge.
        prompts: the prompt file, the same for all.
        results: ``--output``.
        cache: ``ESR_CACHE``.
    """

    root: Path
    name: str
    url: str
    prompts: Path
    results: Path
    cache: Path

    @property
    def arguments(self) -> list[str]:
        judge = f"gpt-5-mini@{self.url}/v1"
        paths = ["--output", str(self.results), "--prompts", str(self.prompts)]
        return [*ARGUMENTS, "--judge", judge, *paths]


@dataclass
class Attempt:
    """A started command."""

    pid: int
    output: Path
    pipe: int
    ended: int | None = None

    def wait(self, seconds: float = 90.0) -> int:
        """Exit status, negative for a signal; 124 where it had to be killed."""
        until = time.monotonic() + seconds
        while self.ended is None and time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.002)
        if self.ended is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.ended = 124
        if not self.output.exists():
            with os.fdopen(self.pipe, "rb") as pipe:
                self.output.write_bytes(pipe.read())
        return self.ended

    def kill_after(self, seconds: float, number: signal.Signals) -> None:
        """Send a signal after a while, unless it has ended by then."""
        self.wait_until(time.monotonic() + seconds)
        if self.ended is None:
            os.kill(self.pid, number)

    def wait_until(self, until: float) -> None:
        while self.ended is None and time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.ended = os.waitstatus_to_exitcode(status)
            time.sleep(0.001)


def start(place: Place, fault: Fault | None = None, extra: tuple[str, ...] = ()) -> Attempt:
    """Fork a child that runs the command."""
    number = len(list(place.root.glob("*.pid")))
    (place.root / f"{number}.pid").touch()
    # A pipe, not a file, which a limit on files would hit as well.
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 2**20)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        os.close(writing)
        return Attempt(pid, place.root / f"{number}.out", reading)
    status = 99
    try:
        _child(place, writing)
        if fault is not None:
            fault()
        status = main(EXPERIMENT, [*place.arguments, *extra])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def warm_up(place: Place) -> None:
    """Run once in this process, so that attempts need not import; it has no threads afterwards."""
    before = dict(os.environ)
    os.environ |= _environment(place)
    with (
        (place.root / "warm").open("w") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        assert main(EXPERIMENT, place.arguments) == 0
    os.environ.clear()
    os.environ |= before
    gc.collect()
    gc.freeze()


def _environment(place: Place) -> dict[str, str]:
    return {
        "ESR_CACHE": str(place.cache),
        "OPENAI_API_KEY": place.name,
        "FAULTS_ENGINE_LOG": str(place.root / "engine.log"),
    }


def _child(place: Place, output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # No child outlives the harness.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ |= _environment(place)
    # tqdm's own lock is a semaphore that forked processes share: a child killed while it holds it
    # would stop all later ones. A command of its own makes its own.
    tqdm.set_lock(threading.RLock())


def kill_at_call(number: int) -> Fault:
    """SIGKILL at the so many-th call of a function of this package."""
    package = str(Path(provenance.__file__).parents[1])

    def apply() -> None:
        left = number

        def count(frame: Any, event: str, _: Any) -> None:
            nonlocal left
            if event in ("call", "c_call") and frame.f_code.co_filename.startswith(package):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)

    return apply


def kill_in_write(number: int, share: float) -> Fault:
    """SIGKILL after a part of the so many-th line of the journal is written."""

    def apply() -> None:
        write, left = os.write, number

        class Torn:
            """``os``, as the journal sees it."""

            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

            @staticmethod
            def write(file: int, data: bytes) -> int:
                nonlocal left
                left -= 1
                if left == 0:
                    write(file, data[: int(share * len(data))])
                    os.kill(os.getpid(), signal.SIGKILL)
                return write(file, data)

        vars(journal)["os"] = Torn()

    return apply


def largest_file(size: int) -> Fault:
    """RLIMIT_FSIZE."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def clock(shift: float) -> Fault:
    """Another time of day, by so many seconds."""

    def apply() -> None:
        real = time.time
        time.time = lambda: real() + shift
        then = (datetime.now(UTC) + timedelta(seconds=shift)).isoformat(timespec="seconds")
        provenance.now = lambda: then

    return apply
