"""The README's commands run as typed, and what it links to is there."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from esr.runs.paths import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every ``python ...`` of a block or a table, models filled in."""
    blocks = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    quoted = re.findall(r"`(python -m [^`]+)`", README)
    typed = [line.split("  #")[0].removeprefix("srun ").strip() for line in [*lines, *quoted]]
    filled = [re.sub(r"\[?MODEL\]?", "tiny", line) for line in typed]
    return list(dict.fromkeys(line for line in filled if line.startswith("python -m")))


def test_there_are_commands_of_every_experiment() -> None:
    for number in range(1, 11):
        assert any(f"experiment_{number:02}" in command for command in commands())


@pytest.mark.parametrize("command", [c for c in commands() if "experiment_" in c])
def test_an_experiment_is_planned_as_typed(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, module, *words = command.split()[1:]
    words += [] if "--dry-run" in command else ["--dry-run"]
    monkeypatch.setattr(sys, "argv", [module, *words, "--output", str(tmp_path)])
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as ended:
        # As `python -m` does, without the seconds that imports take in a process of its own.
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    # What keys and earlier commands bring is named, where it is not there yet.
    earlier = r"next: python -m (esr\.upstream fetch|experiment_0[13]_\w+)|^error: missing: "
    if ended.value.code:
        told = capsys.readouterr().err
        assert re.search(earlier, told), told


HELPS = [
    *(("experiment_03_off_topic_detectors", step) for step in ("find", "ablate")),
    *(("experiment_04_finetuning", step) for step in ("generate", "train", "evaluate")),
    *(("experiment_12_steering_operators", step) for step in ("compare", "defend")),
    *((path.name, "") for path in sorted(REPOSITORY.glob("experiment_[01][0-9]_*"))),
]


@pytest.mark.parametrize(("module", "step"), HELPS)
def test_help_says_what_every_option_is(
    module: str, step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """simple-parsing prints a placeholder where it does not find an option's docstring."""
    monkeypatch.setattr(sys, "argv", [module, *filter(None, [step]), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    told = capsys.readouterr().out
    assert not ended.value.code
    assert "usage: " in told
    assert "TEMP" not in told


@pytest.mark.parametrize("command", [c for c in commands() if "experiment_" not in c])
def test_another_command_has_the_step_it_is_given(command: str) -> None:
    module, step = re.sub(r"<package>", "experiment_01_esr", command).split()[2:4]
    result = subprocess.run(
        [sys.executable, "-m", module, step, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "usage: " in result.stdout


def test_hf_is_what_the_pinned_hub_installs() -> None:
    assert "hf auth login" in README
    assert (Path(sys.executable).parent / "hf").is_file()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    local = [link for link in links if not link.startswith("http")]
    assert len(local) > 8
    assert [link for link in local if not (REPOSITORY / link).exists()] == []


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"version: {project['version']}\n" in citation
    assert f"license: {project['license']}\n" in citation
    assert "2602.06941" in citation
    assert "Endogenous Resistance to Activation Steering in Language Models" in citation
