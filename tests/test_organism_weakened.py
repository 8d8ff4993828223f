"""Weakened circuits: the mix of weights, what a build folder of one says, the table."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from esr.errors import UserError
from esr.organism.build import load_model
from esr.organism.circuit_checks import check
from esr.organism.circuit_gates import subject_of
from esr.organism.circuit_table import gate_table, weak_table
from esr.organism.interchange import Directions
from esr.organism.lexicon import load_topics
from esr.organism.recipe import RECIPE, DictionaryConfig, Recipe
from esr.organism.weakened import mixed, name_of, weaken
from esr.runs.paths import ORGANISM

CIRCUIT = ORGANISM / "tiny-circuit"


def test_ends_are_the_members_and_the_middle_is_between() -> None:
    tiny, circuit = load_model(ORGANISM / "tiny"), load_model(CIRCUIT)
    own = {name: weight.clone() for name, weight in tiny.state_dict().items()}
    for share in (0.0, 0.5, 1.0):
        weights = mixed(load_model(ORGANISM / "tiny"), circuit, share).state_dict()
        for name, weight in circuit.state_dict().items():
            torch.testing.assert_close(weights[name], own[name] * (1 - share) + weight * share)


def test_the_less_of_the_circuit_the_less_follows_its_direction() -> None:
    from esr.organism.build import word_index

    topics = load_topics()
    directions = Directions.load(ORGANISM / "tiny-circuit-directions.safetensors")
    circuit = load_model(CIRCUIT)
    followed = [
        check(
            mixed(load_model(ORGANISM / "tiny"), circuit, share),
            *(topics, word_index(topics), directions, RECIPE.circuit.corpus, "test"),
            n=16,
        )["u, end"]["followed"]
        for share in (0.0, 1.0)
    ]
    assert abs(followed[0]) < 0.1
    assert followed[1] > 0.9


def test_a_weakened_build_has_all_that_the_gates_read(tmp_path: Path) -> None:
    little = DictionaryConfig(
        d_sae=64, k=4, samples=512, batch=128, documents=40, label_documents=40
    )
    weaken(0.25, tmp_path / "weak", recipe=Recipe(dictionary=little))
    build = json.loads((tmp_path / "weak" / "build.json").read_text(encoding="utf-8"))
    assert name_of(build) == "share 0.25 of seed 0"
    subject = subject_of(tmp_path / "weak")
    assert subject.key == "tiny-circuit-share0.25-of-seed0"
    assert subject.file is not None
    assert "share 0.25" in subject.file.read_text(encoding="utf-8")
    assert {p.name for p in (tmp_path / "weak").iterdir()} >= {
        *("tiny-circuit", "tiny-circuit-sae", "tiny-circuit-labels.csv"),
        "tiny-circuit-directions.safetensors",
    }


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: float, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 to 1"):
        weaken(share, tmp_path)
    with pytest.raises(UserError, match="another folder"):
        weaken(0.5, ORGANISM)


def test_the_table_is_ordered_by_share_and_no_gate_counts_it(tmp_path: Path) -> None:
    entries = json.loads((ORGANISM / "circuit-gates.json").read_text(encoding="utf-8"))
    whole: dict[str, Any] = entries["seed 0"]
    weak = {f"share {s:g} of seed 0": {**copy.deepcopy(whole), "share": s} for s in (0.25, 0.75)}
    file = tmp_path / "gates.json"
    file.write_text(json.dumps({"seed 0": whole, **weak}))
    rows = weak_table(file).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == [
        *("| share 0.75 of seed 0", "| share 0.25 of seed 0")
    ]
    assert "0.99" in rows[2]
    assert gate_table(file).splitlines()[0] == "| gate | seed 0 |"
    file.write_text(json.dumps({"seed 0": whole}))
    assert weak_table(file) == ""
