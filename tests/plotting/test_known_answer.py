"""The figure of what the procedure finds with and without a circuit: drawn equals measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from plotting import known_answer
from tests.plotting.printed import check, said

CUT = {"pairs": 9, "baseline": 0.5, "difference": -0.3, "interval": [-0.4, -0.2]}
ENTRIES: dict[str, Any] = {
    "seed 0": {
        "ablation": CUT,
        "random": {"ratios": [1.0, 0.9, None]},
        "true": {"ablation": {**CUT, "difference": -0.2}},
        "decoy": {"ablation": {**CUT, "difference": 0.0, "interval": None}, "random": None},
        "power": {
            **{"cut": [0.0, 0.5], "measured": [0.05, 1.0], "outside": [0.1, 0.9]},
            "paper": [0.0, 0.4],
        },
    },
    "tiny": {"ablation": {**CUT, "difference": -0.1}, "random": {"ratios": [1.1]}},
    "tiny-base": {"ablation": None, "random": None},
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    lines = [
        {"step": 25, "loss": 1.0},
        {
            "step": 100,
            "follows": {
                "restart": {"gap": 0.3},
                "u, end": {"followed": 0.9},
                "d, end": {"followed": 0.0},
            },
        },
    ]
    path = tmp_path / "training.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_table_has_every_number_that_is_drawn(log: Path) -> None:
    drawn = known_answer.figure(ENTRIES, log)
    check(drawn)
    table = drawn.table
    effects = table[table["panel"] == "effect"]
    assert list(effects["subject"].unique()) == [
        *("seed 0: found", "seed 0: true", "seed 0: decoy"),
        "tiny",
    ]
    detectors = effects[effects["arm"] == "detectors"].set_index("subject")
    assert detectors.loc["seed 0: found", "x"] == pytest.approx(-30)
    assert detectors.loc["seed 0: found", "low"] == pytest.approx(-40)
    sets = effects[effects["arm"] == "random set"]
    assert sets["x"].tolist() == pytest.approx([0.0, -5.0, 5.0])
    training = table[table["panel"] == "training"]
    assert training[["arm", "x", "y"]].values.tolist() == [["u, end", 100, 0.9], ["d, end", 100, 0]]
    power = table[table["panel"] == "power"]
    assert power[power["arm"] == "paper"][["x", "y"]].values.tolist() == [[0.0, 0.0], [50.0, 0.4]]
    assert "planted" in said(drawn)


def test_without_random_sets_there_is_no_power_and_no_line(log: Path) -> None:
    entries = {name: {**entry, "power": None} for name, entry in ENTRIES.items()}
    drawn = known_answer.figure(entries, log)
    assert "power" not in set(drawn.table["panel"])
    check(drawn)


def test_command(log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gates = tmp_path / "gates.json"
    options = ["--gates", str(gates), "--log", str(log), "--output", str(tmp_path / "out")]
    assert known_answer.main(options) == 1
    assert "gates circuit" in capsys.readouterr().err
    gates.write_text("{")
    assert known_answer.main(options) == 2
    gates.write_text(json.dumps(ENTRIES))
    assert known_answer.main(options) == 0
    assert (tmp_path / "out" / "exp3_known_answer.png").is_file()
