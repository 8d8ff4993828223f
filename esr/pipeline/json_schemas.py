"""JSON schemas of what a run writes: ``python -m esr.pipeline.json_schemas docs/schema``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from esr.errors import UserError, run_command
from esr.pipeline.journal_schema import VALUES
from esr.pipeline.results_schema import RESULTS
from esr.runs.folder import write_json
from esr.runs.results import Results
from esr.runs.run_metadata import RunMetadata


def schemas() -> dict[str, dict[str, Any]]:
    """JSON schema by file name.

    ``results.json`` has one definition per experiment; ``authors.json`` is the authors' schema as
    our reader takes it.
    """
    results, definitions = _definitions({kind.__name__: kind for kind in RESULTS.values()})
    values, of_values = _definitions(VALUES)
    lines = [_line(kind, value) for kind, value in values.items()]
    return {
        "results.json": {**definitions, "anyOf": list(results.values())},
        "authors.json": TypeAdapter(Results).json_schema(),
        "run.json": TypeAdapter(RunMetadata).json_schema(),
        "journal.json": {**of_values, "anyOf": lines},
    }


def _definitions(types: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A schema for each type, and what they refer to."""
    adapters = [(name, "validation", TypeAdapter(kind)) for name, kind in types.items()]
    by_name, definitions = TypeAdapter.json_schemas(adapters)  # type: ignore[arg-type]
    return {str(name): schema for (name, _), schema in by_name.items()}, definitions


def _line(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the journal; a kind may go on after a slash."""
    properties = {"kind": {"pattern": f"^{kind}(/|$)"}, "key": {"type": "string"}, "value": value}
    crc = {"description": "CRC-32 of the line without it", "pattern": "^[0-9a-f]{8}$"}
    return {
        "type": "object",
        "properties": {**properties, "crc": crc},
        "required": list(properties),
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
