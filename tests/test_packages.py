"""What a Python without the packages is told."""

from __future__ import annotations

import subprocess
import sys

from esr.runs.paths import REPOSITORY


def test_a_python_without_the_packages_says_so_in_one_line() -> None:
    """``-S`` leaves the installed packages out, as the machine's own Python would."""
    command = [sys.executable, "-S", "-m", "experiment_01_esr", "tiny"]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ")
    assert "next: source .venv/bin/activate" in result.stderr
