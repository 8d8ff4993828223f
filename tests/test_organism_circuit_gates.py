"""K1 to K6: the criteria, what is read from run folders, and the tables."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esr.analysis.crossed import Clusters, Estimate
from esr.models import from_toml
from esr.organism import circuit_runs as runs
from esr.organism.carriers import LEAST
from esr.organism.circuit_gates import hits, subject_of
from esr.organism.circuit_table import answer_table, gate_table, judge_gates
from esr.runs.paths import ORGANISM
from esr.runs.results import parse_results

CUT = {
    "pairs": 100,
    "baseline": 0.5,
    "ablated": 0.2,
    "ratio": 0.4,
    "difference": -0.3,
    "interval": [-0.4, -0.2],
    "first_score": {"baseline": 30.0, "ablated": 33.0},
}
NOTHING = {**CUT, "ablated": 0.49, "ratio": 0.98, "difference": -0.01, "interval": [-0.05, 0.03]}
SEARCH = {
    "off_topic_detectors": [7, 9],
    "separability_detectors": [1, 2, 9, 7, *range(20, 42)],
}


@pytest.fixture
def entry() -> dict[str, Any]:
    return {
        "carriers": {"u": [7], "d": [9]},
        "nearest": {"u": {"7": 0.97, "3": -0.2}, "d": {"9": 0.95}},
        "search": {"strict": [7, 9], "separability": SEARCH["separability_detectors"]},
        "shares": {"u": {"7": 0.8}, "d": {"9": 0.7}},
        "hits": hits(SEARCH, [7]),
        "aligned_hits": hits(SEARCH, [7]),
        "ablation": copy.deepcopy(CUT),
        "random": {"ratios": [0.95, 1.02] * 10},
        "statistics": {"cohens_d": 0.4, "n": 40},
        "trace": {"spearman": 0.1},
        "true": {
            "latents": [7],
            "hits": hits(SEARCH, [7]),
            "ablation": copy.deepcopy(CUT),
            "statistics": {"cohens_d": 1.4, "n": 40},
            "trace": {"spearman": 0.6},
        },
        "decoy": {
            "latents": [9],
            "hits": hits(SEARCH, [9]),
            "ablation": copy.deepcopy(NOTHING),
            "statistics": {"cohens_d": 1.2, "n": 40},
            "trace": {"spearman": 0.5},
        },
    }


BASE = {"search": {"strict": []}, "ablation": {**NOTHING, "difference": 0.0, "interval": None}}


def test_hits_count_carriers_at_the_head_of_either_list() -> None:
    assert hits(SEARCH, [7]) == {
        "strict": {"3": 1, "10": 1, "26": 1},
        "separability": {"3": 0, "10": 1, "26": 1},
    }
    assert hits(None, [7])["strict"] == {"3": 0, "10": 0, "26": 0}


def test_every_gate_can_be_passed(entry: dict[str, Any]) -> None:
    verdicts = judge_gates(entry, BASE, seeds=3)
    assert list(verdicts) == ["K1", "K2", "K3", "K4", "K5", "K6"]
    assert all(gate["passed"] for gate in verdicts.values())
    assert verdicts["K3"]["mean_ratio"] == pytest.approx(0.985)
    assert verdicts["K4"]["cohens_d"] == 1.4


@pytest.mark.parametrize(
    ("gate", "change"),
    [
        ("K1", {"aligned_hits": hits(SEARCH, [25])}),
        ("K2", {"ablation": {**CUT, "ratio": 0.51}}),
        ("K2", {"ablation": {**CUT, "first_score": {"baseline": 30.0, "ablated": 24.9}}}),
        ("K3", {"random": {"ratios": [0.89] * 20}}),
        ("K3", {"random": {"ratios": [*[1.0] * 19, 0.4]}}),
        ("K3", {"random": {"ratios": [1.0] * 19}}),
        ("K3", {"random": None}),
        ("K4", {"true": {"statistics": {"cohens_d": 1.0}, "trace": {"spearman": 0.6}}}),
        ("K4", {"true": {"statistics": {"cohens_d": 1.4}, "trace": {"spearman": -0.1}}}),
        ("K4", {"true": {"statistics": None, "trace": None}}),
        ("K5", {"decoy": {"ablation": CUT}}),
    ],
)
def test_each_gate_can_be_failed(entry: dict[str, Any], gate: str, change: dict[str, Any]) -> None:
    verdicts = judge_gates(entry | change, BASE, seeds=3)
    assert [name for name, verdict in verdicts.items() if not verdict["passed"]] == [gate]


def test_an_ablation_that_was_not_measured_passes_nothing(entry: dict[str, Any]) -> None:
    verdicts = judge_gates(entry | {"ablation": None}, BASE, seeds=3)
    assert not verdicts["K2"]["passed"]
    assert not verdicts["K3"]["passed"]


def test_two_seeds_do_not_pass_k6_and_an_effect_on_the_base_not_k5(entry: dict[str, Any]) -> None:
    verdicts = judge_gates(entry, {"ablation": CUT}, seeds=2)
    assert [name for name, gate in verdicts.items() if not gate["passed"]] == ["K5", "K6"]


def _results(arms: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Trials of two latents by three prompts; scores per arm in that order."""
    features = []
    for latent in (1, 2):
        trials = []
        for arm, scores in arms.items():
            for prompt in range(3):
                attempts = scores[(latent - 1) * 3 + prompt]
                trials.append(
                    {
                        "trial_id": f"{latent}/{prompt}",
                        "arm": arm,
                        "prompt": f"prompt {prompt}",
                        "seed": 0,
                        "response": "text",
                        "score": {
                            "attempts": [{"attempt_text": "x", "score": s} for s in attempts]
                        },
                    }
                )
        features.append({"feature_index_in_sae": latent, "threshold": 1.0, "trials": trials})
    return {"results_by_feature": features}


def test_effect_is_the_paired_difference_with_its_two_way_interval() -> None:
    before = [[20, 80], [20, 80], [20], [20, 60], [20], [20, 30]]
    after = [[30], [30, 90], [30], [30], [30], [30, 40]]
    parent = parse_results(_results({"steered": [[float(s) for s in x] for x in before]}))
    clamped = parse_results(_results({"ablation": [[float(s) for s in x] for x in after]}))
    figures = runs.effect(clamped, "ablation", parent)
    assert figures["pairs"] == 6
    assert figures["baseline"] == pytest.approx(4 / 6)
    assert figures["ablated"] == pytest.approx(2 / 6)
    assert figures["ratio"] == pytest.approx(0.5)
    assert figures["first_score"] == {"baseline": 20.0, "ablated": 30.0}
    change = np.array([-1, 0, 0, -1, 0, 0], dtype=float)
    clusters = Clusters.of([1, 1, 1, 2, 2, 2], ["0", "1", "2"] * 2)
    interval = Estimate.of(change, np.ones(6), clusters).mean_interval()
    assert interval is not None
    assert figures["difference"] == pytest.approx(-2 / 6)
    assert figures["interval"] == pytest.approx([interval.low, interval.high])


def test_around_the_restart_leaves_the_restart_itself_out() -> None:
    offset = list(range(-30, 31))
    mean = [5.0 if o < 0 else 99.0 if o < 12 else 1.0 for o in offset]
    assert runs.around({"offset": offset, "mean": mean}) == {"before": 5.0, "behind": 1.0}
    empty = {"offset": offset, "mean": [None] * len(offset)}
    assert runs.around(empty) == {"before": None, "behind": None}


def test_an_unregistered_build_is_described_by_a_file(tmp_path: Path) -> None:
    figures = {"dictionaries": {"tiny-circuit": {"residual_norm": 500.0}}, "seed": 1}
    (tmp_path / "build.json").write_text(json.dumps(figures))
    folder = tmp_path / "tiny-circuit-sae"
    folder.mkdir()
    (folder / "cfg.json").write_text(json.dumps({"d_in": 192, "d_sae": 1024}))
    subject = subject_of(tmp_path)
    assert subject.key == "tiny-circuit-seed1"
    assert subject.file is not None
    spec = from_toml.load(subject.file)
    assert (spec.key, spec.judge, spec.organism) == (subject.key, "lexical", True)
    assert spec.calibration.prior_mean == 350.0
    assert spec.profile("paper").repetition_penalty == 1.0
    plan = runs.Plan(tmp_path)
    assert subject.options(plan)[:2] == ["--model-file", str(subject.file)]


def test_an_experiment_that_ends_badly_is_named_and_not_hidden(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = runs.Plan(tmp_path)
    assert runs.conduct("json.tool", runs.Subject("--help"), plan) in (True, False)
    assert not runs.conduct("esr.no_such_module", runs.Subject("tiny"), plan)
    assert "esr.no_such_module" in capsys.readouterr().err


def test_tables_have_a_row_per_gate_and_per_model(entry: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "gates.json"
    tiny = {"search": {"strict": []}, "hits": None, **{k: entry[k] for k in ("ablation", "random")}}
    file.write_text(json.dumps({"seed 0": entry, "tiny": tiny, "tiny-base": BASE}))
    gates = gate_table(file).splitlines()
    assert len(gates) == 8
    assert gates[2].startswith("| K1 | passed: best cosine 0.97")
    assert "not passed" in gates[7]
    rows = answer_table(file).splitlines()
    assert len(rows) == 7
    assert "50.0 to 20.0 %" in rows[2]
    assert "-30.0 [-40.0, -20.0]" in rows[2]
    assert "0.98 (0.95 to 1.02, 20 sets)" in rows[2] or "0.99 (0.95 to 1.02, 20 sets)" in rows[2]
    assert "no truth" in rows[5]


GATES = ORGANISM / "circuit-gates.json"


def test_the_committed_figures_are_whole() -> None:
    entries = json.loads(GATES.read_text(encoding="utf-8"))
    builds = [each for name, each in entries.items() if name.startswith("seed ")]
    assert builds
    for build in builds:
        assert set(judge_gates(build, entries.get("tiny-base", {}), len(builds))) == {
            f"K{n}" for n in range(1, 7)
        }
        assert not set(build["carriers"]["u"]) & set(build["carriers"]["d"])
        assert all(build["shares"]["u"][str(k)] >= LEAST for k in build["carriers"]["u"])
