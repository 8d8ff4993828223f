"""Tables from the file of a GPU check: benchmarks/README.md, and the rates of docs/costs.md."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.gpu.steps import STEPS

KIND = "gpu"
COSTS = Path(__file__).parents[2] / "docs" / "costs.md"


def newest(folder: Path | None = None) -> dict[str, Any] | None:
    """The newest file of a GPU; a miniature's is refused wherever it lies."""
    data = record.newest(KIND, folder)
    return None if data is None or data["miniature"] else data


def rates(data: Mapping[str, Any] | None) -> dict[str, float]:
    """Tokens per second of one engine with 64 in flight, all boosted, by model key."""
    if data is None:
        return {}
    found = {}
    for key in ("70b", "8b"):
        step = data["steps"].get(f"overhead-{key}-64", {})
        if "figures" in step:
            found[key] = float(step["figures"]["tokens_per_second"]["boost"])
    return found


def text(data: Mapping[str, Any] | None) -> str:
    """All steps, with their figures."""
    if data is None:
        return "Not measured: no GPU was at hand. `make gpu-check` on one writes this table."
    rows = [
        [step.name, step.what, *_cells(data["steps"].get(step.name, {"status": "open"}))]
        for step in STEPS
    ]
    return "\n\n".join(
        [record.taken_on(data), record.table(("step", "what", "status", "s", "figures"), rows)]
    )


def _cells(result: Mapping[str, Any]) -> list[str]:
    shown = "; ".join(_figures(result.get("figures", {}))) or result.get("reason", "")
    return [result["status"], str(result.get("seconds", "")), shown]


def _figures(figures: Mapping[str, Any]) -> Iterator[str]:
    """What fits into a cell: ratios as medians, numbers and words as they are."""
    for name, value in figures.items():
        if name == "ratios":
            for arm, ratios in value.items():
                yield f"{arm} {statistics.median(ratios):.3f}"
        elif isinstance(value, str | int | float) and value != "":
            yield f"{name.replace('_', ' ')} {value}"


def write() -> None:
    """Both documents, from the newest file."""
    record.put(KIND, text(newest()))
    costs = subprocess.run(
        [sys.executable, "-m", "benchmarks.costs"], capture_output=True, text=True, check=True
    )
    COSTS.write_text(costs.stdout, encoding="utf-8")
