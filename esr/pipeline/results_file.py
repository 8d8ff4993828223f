"""Reading ``results.json`` as plain JSON; :mod:`esr.runs.results` reads it typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from esr.runs.results import read_results, results_file

__all__ = ["load", "results_file"]


def load(path: Path) -> dict[str, Any]:
    """The content of a valid results file (:func:`esr.runs.results.read_results`)."""
    return read_results(path).raw
