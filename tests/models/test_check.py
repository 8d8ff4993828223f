"""``python -m esr.models check``: files that cannot work are refused, each in one line.

The base is a file that is in order, with the organism's weights, dictionary and labels; every case
spoils one thing of it.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from esr import judge
from esr.models import commands
from esr.runs.paths import ORGANISM
from tests.models.spoiled import A_MODEL, FAULTS, HUB, added, edit

pytestmark = pytest.mark.skipif(
    not (ORGANISM / "tiny" / "model.safetensors").is_file(), reason="the organism is not built"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file in order and all it names; no hub."""
    shutil.copytree(ORGANISM / "tiny", tmp_path / "weights")
    shutil.copytree(ORGANISM / "tiny-sae", tmp_path / "sae")
    shutil.copy(ORGANISM / "tiny-labels.csv", tmp_path / "labels.csv")
    (tmp_path / "my.toml").write_text(A_MODEL, encoding="utf-8")
    monkeypatch.setenv("ESR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def check(folder: Path) -> int:
    return commands.main(judge.resolve, ["check", str(folder / "my.toml")])


def test_a_file_in_order_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(folder) == 0
    out = capsys.readouterr().out
    assert "in order" in out
    assert "NOT CHECKED" not in out
    for part in ("judge: lexical", "prompts: organism, 38", "SAE: 1,024 latents of width 192"):
        assert part in out
    assert re.search(r"labels: [\d,]+ of 1,024 latents", out)
    assert "weights: 6 layers of width 192" in out
    assert "tokenizer: longest prompt" in out


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cannot_work_is_refused(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    spoil, message = FAULTS[name]
    spoil(folder)
    assert check(folder) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines
    for line in lines:
        assert re.match(r"error: .*; allowed: .*; next: ", line), line
    assert any(re.search(message, line) for line in lines), lines


def test_what_is_not_on_this_machine_is_said_not_to_be_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    HUB(folder)
    assert check(folder) == 1
    out = capsys.readouterr().out
    assert "NOT CHECKED weights: lab/model is not on this machine; not checked: Hugging Face" in out
    assert "NOT CHECKED tokenizer: " in out
    assert "no fault, but 2 parts could not be checked" in out


def test_files_in_the_hub_s_cache_are_checked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a revision that is not among them is refused where no network knows others."""
    cache = folder / "hub" / "models--lab--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("c0ffee", encoding="utf-8")
    shutil.copytree(folder / "weights", cache / "snapshots" / "c0ffee")
    HUB(folder)
    assert check(folder) == 0
    assert "weights: 6 layers" in capsys.readouterr().out
    added('revision = "v2"')(folder)
    assert check(folder) == 2
    assert "not its revision 'v2'; allowed: c0ffee, main" in capsys.readouterr().err
    edit('"v2"', '"c0ffee"')(folder)
    (cache / "snapshots" / "c0ffee" / "model.safetensors").unlink()
    assert check(folder) == 1
    assert "NOT CHECKED weights: the weights of lab/model" in capsys.readouterr().out


def test_every_fault_is_shown_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for spoil in (FAULTS["judge"][0], FAULTS["labels missing"][0], FAULTS["weights missing"][0]):
        spoil(folder)
    assert check(folder) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_registered_models_can_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(judge.resolve, ["check", "tiny"]) == 0
    assert commands.main(judge.resolve, ["check", "tny"]) == 2
    assert "did you mean 'tiny'" in capsys.readouterr().err
