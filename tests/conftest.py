"""Every test has its own cache, no key of the user's, and runs that follow their schemas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from esr.runs.folder import RunFolder
from tests import run_schemas


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
