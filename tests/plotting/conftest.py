"""A report page with runs of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.made_up_runs import (
    a_family,
)
from tests.plotting.reports import make

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    a_family(root / "results")
    return make(root / "results", root / "out")
