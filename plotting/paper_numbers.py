"""Published against measured: every number of the paper beside ours, with a verdict by rule.

python plotting/paper_numbers.py [--results PATH ...] [--run PATH ...] [--model KEY] [--judge ID]
                                 [--exclude-degraded] [--output DIR] [--all]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from esr.errors import UserError, cannot_write
from plotting import style
from plotting.command import EXCLUDE_DEGRADED, add_options
from plotting.latex import macros
from plotting.measured import PERCENT, SCORE, Measured, measure
from plotting.published import NOT_RUN, VERDICTS, Row, compare, document
from plotting.selection import find

NAME = "paper_numbers"


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """The table as CSV has it."""
    return pd.DataFrame([row.plain() for row in rows])


def terminal(rows: Sequence[Row], everything: bool = False) -> str:
    """The table for the terminal; numbers that were not run only on request."""
    listed = [row for row in rows if everything or row.verdict != NOT_RUN]
    lines = [
        f"{'':4}{'model':15}{'condition':27}{'quantity':29}{'published':>13}  "
        f"{'measured, 95 %':>28}{'n':>8}{'sees':>7}  verdict"
    ]
    for row in listed:
        paper, ours = row.published, row.measured
        title = ours.title if ours and ours.organism else paper.model
        sees = row.smallest_difference
        value = f"{paper.printed} [{' '.join(paper.marks)}]"
        lines.append(
            f"{paper.experiment:<4}{title[:14]:15}{paper.arm[:26]:27}{paper.quantity[:28]:29}"
            f"{value:>13}  {shown(ours):>28}{ours.n if ours else '':>8}"
            f"{'-' if sees is None else f'{sees:.3g}':>7}  {row.verdict}"
        )
    counts = {v: sum(r.verdict == v for r in rows) for v in VERDICTS}
    lines.append(", ".join(f"{v}: {n}" for v, n in counts.items()))
    marks = {mark for row in listed for mark in row.published.marks}
    meanings = [f"[{mark}] {text}" for mark, text in document()["marks"].items() if mark in marks]
    lines.append("Sees: smallest difference that 80 % of such runs would see, at the 5 % level.")
    if meanings:
        lines.append(f"Published: {'; '.join(meanings)}.")
    if any(row.measured and row.measured.organism for row in listed):
        lines.append(f"Organisms: {style.ORGANISM_NOTE}; beside them the paper's largest model.")
    return "\n".join(lines)


def shown(ours: Measured | None) -> str:
    """Value and interval for readers."""
    if ours is None:
        return "-"
    places = {PERCENT: 2, SCORE: 1}.get(ours.unit, 4)
    value, low, high = (
        "" if number is None else f"{number:.{places}f}"
        for number in (ours.value, ours.low, ours.high)
    )
    ends = f"{low} to {high}" if low and high else ""
    return f"{value} ({ends})" if value and ends else value or ends or "not defined"


def write(rows: Sequence[Row], folder: Path) -> list[Path]:
    """``paper_numbers.csv`` and ``paper_numbers.tex``.

    Raises:
        UserError: the folder cannot be written to.
    """
    paths = [folder / f"{NAME}.csv", folder / f"{NAME}.tex"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        frame(rows).to_csv(paths[0], index=False)
        paths[1].write_text(macros(rows), encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return paths


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write both files; 0, or 2 on bad input."""
    parser = argparse.ArgumentParser(prog="paper_numbers.py", description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--exclude-degraded", action="store_true", help=EXCLUDE_DEGRADED)
    parser.add_argument("--all", action="store_true", help="also print what was not run")
    options = parser.parse_args(argv)
    try:
        sources = find(options.results, options.model, options.judge, options.run)
        rows = compare(measure(sources, options.exclude_degraded))
        paths = write(rows, options.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(terminal(rows, options.all))
    print("\n".join(str(path) for path in paths))
    return 0


if __name__ == "__main__":
    sys.exit(main())
