"""The organism's gates: the criteria, and the committed measurement against them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from esr.organism.corpus import vocabulary
from esr.organism.gates import PER_TOPIC, judge_gates, restart_probability, table
from esr.organism.lexicon import load_topics
from esr.organism.recipe import Shape
from esr.organism.training import build_model
from esr.runs.paths import ORGANISM

GATES = ORGANISM / "gates.json"


@pytest.fixture
def measured() -> dict[str, Any]:
    known = json.loads(GATES.read_text(encoding="utf-8"))
    return copy.deepcopy(dict(known["seed 0, tiny"]["measured"]))


def test_committed_verdicts_follow_from_the_committed_measurement() -> None:
    for entry in json.loads(GATES.read_text(encoding="utf-8")).values():
        assert judge_gates(entry["measured"]) == entry["gates"]
    assert table(GATES).count("\n") == 6


def test_every_gate_can_be_passed_and_failed(measured: dict[str, Any]) -> None:
    chance, arms = measured["restart_probability"], measured["arms"]
    chance["on topic"]["mean"] = chance["on topic, meta-prompt"]["mean"] = 0.0049
    chance["off topic"]["mean"], chance["off topic, meta-prompt"]["mean"] = 0.075, 0.25
    measured["usable_latents"] = 40
    arms["unsteered"]["multi_attempt_rate"]["rate"] = 0.0049
    arms["steered"]["redraw_null"]["excess_cluster_interval"] = [0.001, 0.2]
    measured["detectors"]["strict"] = [1, 2, 3]
    assert all(gate["passed"] for gate in judge_gates(measured).values())

    chance["on topic, meta-prompt"]["mean"] = 0.005
    measured["usable_latents"] = 39
    arms["unsteered"]["multi_attempt_rate"]["rate"] = 0.005
    arms["steered"]["redraw_null"]["excess_cluster_interval"] = [-0.001, 0.2]
    measured["detectors"]["strict"] = [1, 2]
    assert not any(gate["passed"] for gate in judge_gates(measured).values())


def test_restart_probability_of_an_untrained_model_is_that_of_five_words_of_all() -> None:
    topics = dict(list(load_topics().items())[:6])
    words = vocabulary(topics)
    model = build_model(Shape(d_model=32, n_layers=1, n_heads=1, d_mlp=32), len(words), 0).eval()
    found = restart_probability(model, topics, seed=0)
    assert set(found) == {
        "on topic",
        "off topic",
        "on topic, meta-prompt",
        "off topic, meta-prompt",
    }
    for cell in found.values():
        assert cell["mean"] == pytest.approx(5 / len(words), rel=0.5)
        assert cell["interval"][0] <= cell["mean"] <= cell["interval"][1]
        assert cell["sentences"] == 6 * PER_TOPIC
