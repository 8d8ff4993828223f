"""A short campaign: faults of every class, none of which costs anything (docs/reliability.md)."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from esr.runs.paths import REPOSITORY
from tests.faults.campaign import can_mount
from tests.faults.harness import COLUMNS
from tests.faults.scenarios import NEEDS_MOUNT, SCENARIOS

FAULTS = 60


def test_a_fault_of_every_class_costs_nothing(tmp_path: Path) -> None:
    arguments = ["--faults", str(FAULTS), "--seed", "5", "--workers", "2"]
    # A process of its own: stand-ins take the place of the engine there.
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults", *arguments, "--folder", str(tmp_path / "runs")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = {
        cells[0]: [int(cell.replace(",", "")) for cell in cells[1:]]
        for line in ended.stdout.splitlines()
        if (cells := re.findall(r"[^|]+(?= \|)", line.replace("| ", "", 1)))
        and cells[-1].strip().isdigit()
    }
    every = {name for name in SCENARIOS if can_mount() or name not in NEEDS_MOUNT}
    assert {name.strip() for name in rows} == {*every, "**all**"}
    assert all(faults > 0 for _, faults, *_ in rows.values()), ended.stdout
    total = rows.pop("**all**")
    assert total[1] >= FAULTS
    # The last column counts answers that were lost on their way, which no file can prevent.
    assert total[2:-1] == [0] * (len(COLUMNS) - 1), ended.stdout
