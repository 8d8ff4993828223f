"""The Python example of the README, word for word."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import esr

ROOT = Path(__file__).resolve().parents[2]


def block(language: str) -> str:
    """The one block of its kind in the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (only,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return str(only)


def test_the_example_runs_and_prints_what_the_readme_shows(tmp_path: Path) -> None:
    file = tmp_path / "example.py"
    file.write_text(block("python"), encoding="utf-8")
    command = [sys.executable, str(file)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    shown = [part.strip() for part in " ".join(block("text").split()).split("[...]")]
    pattern = ".*".join(re.escape(part) for part in shown)
    assert re.fullmatch(pattern, done.stdout.strip()), done.stdout


def test_every_exported_name_exists_and_importing_esr_loads_nothing_heavy() -> None:
    for name in esr.__all__:
        assert getattr(esr, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Bost'"):
        _ = esr.Bost
    heavy = "import sys, esr; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
