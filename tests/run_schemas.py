"""Whether a run folder follows the types of what a run writes."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from esr.pipeline.journal_schema import VALUES
from esr.pipeline.results_schema import RESULTS
from esr.runs.folder import read_run
from esr.runs.results import read_results


@cache
def _results(experiment: str) -> TypeAdapter[Any]:
    return TypeAdapter(RESULTS[experiment])


@cache
def _value(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(VALUES[kind])


def check(folder: Path) -> None:
    """``run.json``, ``results.json`` and ``journal.jsonl`` of a run of one of the experiments.

    Raises:
        ValidationError: a key is missing or holds what its type does not allow.
        KeyError: a kind of line that has no type.
    """
    experiment = read_run(folder).experiment
    if experiment not in RESULTS:
        return
    read_results(folder)
    _results(experiment).validate_python(json.loads((folder / "results.json").read_text()))
    journal = folder / "journal.jsonl"
    for line in journal.read_text().splitlines() if journal.is_file() else []:
        entry = json.loads(line)
        _value(entry["kind"].partition("/")[0]).validate_python(entry["value"])
