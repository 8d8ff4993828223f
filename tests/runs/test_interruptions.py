"""Ctrl-C and SIGTERM: said at once, cleaned up after, and an exit status of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from esr.errors import EngineError, SpendLimitError, StorageError, UserError, run_command
from esr.runs.folder import read_run

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = textwrap.dedent(
    """
    import asyncio, sys, time
    from pathlib import Path
    from esr.errors import run_async, run_command
    from esr.runs.folder import RunFolder

    root, seconds = Path(sys.argv[1]), float(sys.argv[2])

    async def main():
        with RunFolder.locate(root, "e", "m", {}) as run:
            try:
                print("loading", flush=True)
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    time.sleep(0.01)  # a model is loaded: nothing is awaited
                print("loaded", flush=True)
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                run.write_results({"summary": 1}, partial=True)
                await asyncio.sleep(0.2)  # the grace for answers on their way
                run.update(spend=0.5)
                raise

    raise SystemExit(run_command(lambda: run_async(main())))
    """
)


class Program:
    """The program above, with what it says."""

    def __init__(self, root: Path, seconds: float, *, sigint: signal.Handlers) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root), str(seconds)],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A suite started in the background ignores SIGINT, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, sigint),
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.out, self.err = self.process.stdout, self.process.stderr
        assert self.out.readline() == "loading\n"

    def end(self) -> tuple[int, list[str]]:
        """Exit status and the lines on the error stream not yet read."""
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err.splitlines()


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Program]:
    def started(seconds: float, sigint: signal.Handlers = signal.SIG_DFL) -> Program:
        return Program(tmp_path, seconds, sigint=sigint)

    return started


SAID = (
    "stopping: paid answers on their way are waited for, and a model that is being loaded; "
    "once more stops at once\n"
)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_model_loads_is_answered_at_once(
    start: Callable[..., Program], number: signal.Signals, status: int
) -> None:
    program = start(3.0)
    program.process.send_signal(number)
    sent = time.monotonic()
    assert program.err.readline() == SAID
    assert time.monotonic() - sent < 2.0, "said after the model was loaded"
    assert program.end() == (status, ["interrupted: repeat the command to go on"])
    (path,) = program.root.glob("*/*/*")
    run = read_run(path)
    assert (run.status, run.spend) == ("interrupted", 0.5)
    assert '"partial": true' in (path / "results.json").read_text()


def test_sigterm_ends_a_run_in_the_background_where_ctrl_c_is_ignored(
    start: Callable[..., Program],
) -> None:
    program = start(0.0, signal.SIG_IGN)
    program.process.send_signal(signal.SIGINT)
    assert program.out.readline() == "loaded\n"
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == (143, [SAID.strip(), "interrupted: repeat the command to go on"])


def test_a_second_signal_does_not_wait_for_a_model(start: Callable[..., Program]) -> None:
    program = start(50.0)
    for _ in range(2):
        program.process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert program.end()[0] == 130


def test_outside_the_loop_sigterm_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert run_command(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 143
    assert capsys.readouterr().err == "interrupted: repeat the command to go on\n"
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (UserError("a", "b", "c"), 2, "error: a; allowed: b; next: c"),
        (EngineError("vLLM stopped"), 1, "error: vLLM stopped; next: repeat the command to go on"),
        (SpendLimitError("limit"), 3, "stopped: limit"),
        (
            StorageError(Path("f"), OSError(30, "Read-only file system")),
            1,
            "stopped: cannot write f (Read-only file system); next: make it writable, or name "
            "--output FOLDER, then repeat the command to go on",
        ),
    ],
)
def test_how_a_command_ends(
    error: Exception, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        raise error

    assert run_command(command) == status
    assert capsys.readouterr().err == line + "\n"
