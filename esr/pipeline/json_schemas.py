"""JSON schemas of what a run writes: ``python -m esr.pipeline.json_schemas docs/schema``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from esr.errors import UserError, run_command
from esr.pipeline.journal_schema import JournalLine
from esr.pipeline.results_schema import RESULTS
from esr.runs.folder import write_json
from esr.runs.results import Results
from esr.runs.run_metadata import RunMetadata


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schema by file name.

    ``results.json`` has one definition per experiment; ``authors.json`` is the authors' schema as
    our reader takes it.
    """
    kinds = list({kind.__name__: kind for kind in RESULTS.values()}.values())
    references, definitions = TypeAdapter.json_schemas(
        [(kind.__name__, "validation", TypeAdapter(kind)) for kind in kinds],
        title="results.json of a run",
        description="One definition per experiment; keys that are not declared are allowed.",
    )
    of_run = {**definitions, "anyOf": [references[k.__name__, "validation"] for k in kinds]}
    return {
        "results.json": of_run,
        "authors.json": TypeAdapter(Results).json_schema(),
        "run.json": TypeAdapter(RunMetadata).json_schema(),
        "journal.json": TypeAdapter[Any](JournalLine).json_schema(),
    }


def main(argv: Sequence[str]) -> int:
    """Write the schemas into the folder named; returns the exit status."""

    def command() -> None:
        if len(argv) != 1 or not Path(argv[0]).is_dir():
            raise UserError(
                f"no folder to write to: {' '.join(argv)}",
                "one existing folder",
                "python -m esr.pipeline.json_schemas docs/schema",
            )
        for name, schema in schemas().items():
            write_json(Path(argv[0]) / name, schema)

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
