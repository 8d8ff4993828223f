"""Every test has its own cache, no key of the user's, and runs that follow their schemas."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from esr.engine.vllm_driver import InProcess
from esr.runs.folder import RunFolder
from tests import run_schemas

# What collecting imports stays to the end: looking through it again and again was a third of the
# collection, and cost every test.
gc.disable()


def pytest_collection_finish() -> None:
    """Look from here on at what is new."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _frozen_again() -> Iterator[None]:
    """vLLM thaws all when an engine in this process ends, and looks through all when the next
    starts, which takes longer than the start itself."""
    shutdown = InProcess.shutdown

    def and_freeze(driver: InProcess) -> None:
        shutdown(driver)
        gc.freeze()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(InProcess, "shutdown", and_freeze)
        yield


def pytest_sessionfinish() -> None:
    """Else libraries complain of leaks when the interpreter ends."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test makes an experiment write is checked against ``docs/schema``'s types."""
    write = RunFolder.write_results

    def checked(run: RunFolder, results: Mapping[str, Any], *, partial: bool = False) -> Path:
        path = write(run, results, partial=partial)
        run_schemas.check(run.path)
        return path

    monkeypatch.setattr(RunFolder, "write_results", checked)
