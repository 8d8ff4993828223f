"""The worked examples of docs/steering.md, on the organism, word for word."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from esr.directions import commands
from esr.runs.paths import REPOSITORY
from esr.steering import directions
from esr.steering.operators import OPERATORS
from esr.steering.steering_file import load
from plotting import operators_picture

TEXT = (REPOSITORY / "docs" / "steering.md").read_text(encoding="utf-8")
SUBJECTS = json.loads((REPOSITORY / "data" / "organism" / "lexicon.json").read_text())["topics"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def typed(step: str) -> list[str]:
    """Words of the first command of a step, behind ``python -m esr.directions``."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    line = next(line for line in lines if line.startswith(f"python -m esr.directions {step}"))
    return line.split("  #")[0].split()[3:]


def test_the_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    quick = ["--engine", "transformers", "--n-texts", "10", "--output", str(tmp_path / "results")]
    assert commands.main([*typed("fit"), *quick]) == 0
    fitted = capsys.readouterr().out
    assert "Direction 'wine' (logistic, mean states) of model tiny" in fitted
    direction = directions.read(tmp_path / "wine.safetensors")
    assert direction.fit(3).metrics["auc"] == 1.0
    assert commands.main(typed("show")) == 0
    assert commands.main(typed("check")) == 0
    assert "in order" in capsys.readouterr().out

    (code,) = blocks("python")
    exec(compile(code, "docs/steering.md", "exec"), {"__name__": "example"})
    plain, steered = capsys.readouterr().out.strip().splitlines()
    about_wine = set(SUBJECTS["wine"]["nouns"])
    assert not about_wine & set(plain.split())
    assert plain != steered

    (toml,) = blocks("toml")
    (tmp_path / "steer.toml").write_text(toml)
    steering = load(tmp_path / "steer.toml")
    assert len(steering.interventions) == 5, "a rotation is four slots"
    assert steering.layers == (3,)


def test_every_operator_is_in_the_table_and_in_the_picture(tmp_path: Path) -> None:
    for name in OPERATORS:
        assert f"| `{name}` |" in TEXT
        assert name in operators_picture.STRENGTHS
    # Sizes alone: fonts are drawn a little differently from machine to machine.
    made = operators_picture.main(tmp_path)
    committed = REPOSITORY / "docs" / "images" / made.name
    assert made.read_bytes()[16:24] == committed.read_bytes()[16:24]


def test_arrows_lead_where_the_operators_say() -> None:
    points = torch.tensor([[-1.0, 0.5], [2.0, 1.0]])
    torch.testing.assert_close(
        operators_picture.moved("sttp", points), torch.tensor([[1.6, 0.5], [2.0, 1.0]])
    )
    torch.testing.assert_close(
        operators_picture.moved("stmp", points), torch.tensor([[1.2, 0.5], [2.0, 1.0]])
    )
    torch.testing.assert_close(
        operators_picture.moved("ablate", points), torch.tensor([[0.0, 0.5], [0.0, 1.0]])
    )
