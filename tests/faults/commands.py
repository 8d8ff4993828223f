"""``python -m tests.faults [--faults N] [--seed N] [--workers N] [--write]``."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from esr.runs.paths import REPOSITORY
from tests.faults.campaign import campaign, table

DOCUMENT = REPOSITORY / "docs" / "reliability.md"
BLOCK = re.compile(r"(<!-- faults -->\n).*?(\n<!-- end of faults -->)", re.DOTALL)


def main() -> int:
    """Inject, print the table, write it where asked; 1 where a fault cost something."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--faults", type=int, default=2000, help="at least so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--folder", type=Path, help="keeps the runs; a temporary one if left out")
    parser.add_argument("--write", action="store_true", help="the table into docs/reliability.md")
    options = parser.parse_args()
    began, load = time.monotonic(), os.getloadavg()[0]
    root = options.folder or Path(tempfile.mkdtemp(prefix="faults-"))
    rows = campaign(options.faults, options.seed, options.workers, root)
    lines = table(rows)
    for row in rows.values():
        for note in row.notes:
            print(note)
    commit = subprocess.run(
        ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    minutes = (time.monotonic() - began) / 60
    about = (
        f"{datetime.now(UTC):%d %B %Y}, commit {commit}, seed {options.seed}, "
        f"{options.workers} processes on {os.cpu_count()} cores, load {load:.0f} at the start and "
        f"{os.getloadavg()[0]:.0f} at the end, {minutes:.0f} minutes."
    )
    print(f"{about}\n\n{lines}")
    if options.write:
        text = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(BLOCK.sub(rf"\g<1>{about}\n\n{lines}\g<2>", text), encoding="utf-8")
    total: Counter[str] = sum((row.costs for row in rows.values()), Counter())
    return int(any(total[column] for column in total if column != "in flight"))
