"""Whether a run folder follows the types of what a run writes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from esr.pipeline.journal_schema import JournalLine
from esr.pipeline.results_schema import RESULTS
from esr.runs.folder import read_run
from esr.runs.results import read_results


@cache
def _adapter(experiment: str) -> TypeAdapter[Any]:
    return TypeAdapter(RESULTS[experiment] if experiment else JournalLine)


def check(folder: Path) -> None:
    """``run.json``, ``results.json`` and ``journal.jsonl`` of a run of one of the experiments.

    Raises:
        ValidationError: a key is missing or holds what its type does not allow.
    """
    experiment = read_run(folder).experiment
    if experiment not in RESULTS:
        return
    read_results(folder)
    _adapter(experiment).validate_python(json.loads((folder / "results.json").read_text()))
    journal = folder / "journal.jsonl"
    for line in journal.read_text().splitlines() if journal.is_file() else []:
        _adapter("").validate_json(line)
