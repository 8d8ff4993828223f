"""vLLM's output goes to a file, so that a progress bar stays readable and errors are one line."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

_ERROR = re.compile(r"((?:\w+\.)*\w*(?:Error|Exception|Exit): .*)")
_WRAPPERS = (
    "Worker failed",
    "Engine core initialization failed",
    "WorkerProc initialization",
    # The engine's process gives up waiting when a worker was killed.
    "RuntimeError: cancelled",
)


def new_log() -> Path:
    """An empty file for one engine."""
    handle, name = tempfile.mkstemp(prefix="esr-vllm-", suffix=".log")
    os.close(handle)
    return Path(name)


@contextlib.contextmanager
def output_to(log: Path) -> Iterator[None]:
    """Send standard output and error to ``log``.

    File descriptors are redirected, because vLLM's processes and C++ libraries write there; a
    process started inside keeps writing to ``log`` afterwards.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for copy, original in zip(saved, (1, 2), strict=True):
            os.dup2(copy, original)
            os.close(copy)


def root_cause(log: Path) -> str:
    """The last error in ``log`` that does not merely pass on another; empty if there is none."""
    errors = _ERROR.findall(log.read_text(errors="replace"))
    causes = [line for line in errors if not any(wrapper in line for wrapper in _WRAPPERS)]
    return causes[-1].strip() if causes else ""
