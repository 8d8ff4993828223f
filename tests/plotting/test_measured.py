"""What is measured for each published number."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from esr.analysis import metrics
from esr.analysis.outcomes import outcomes_from_results
from plotting import selection
from plotting.measured import Measured, measure, sd_name
from plotting.published import (
    compare,
)
from tests.made_up_runs import a_family, arm_of_trials, write_run
from tests.plotting.paper_rows import LARGE


def by_key(found: list[Measured]) -> dict[tuple[Any, ...], Measured]:
    return {(m.experiment, m.model, m.arm, m.quantity): m for m in found}


class TestMeasured:
    def test_rates_are_those_of_the_metrics(self, tmp_path: Path) -> None:
        a_family(tmp_path)
        found = by_key(measure(selection.find([tmp_path])))
        (run,) = (tmp_path / "experiment_01_esr" / "tiny").iterdir()
        outcomes = outcomes_from_results(json.loads((run / "results.json").read_text()))
        summary: Mapping[str, Any] = metrics.summary(outcomes, 3)
        for name in ("multi_attempt_rate", "conditional_improvement_rate", "esr_rate"):
            mine = found[1, "tiny", "steered", name]
            assert mine.value == 100 * summary[name]["rate"]
            assert (mine.count, mine.n) == (summary[name]["count"], summary[name]["n"])
            low, high = summary[name]["two_way_interval"]
            assert (mine.low, mine.high) == (100 * low, 100 * high)
        assert found[1, "tiny", "steered", "mean_first_score"].value == pytest.approx(
            summary["mean_first_score"]["mean"]
        )
        assert (3, "tiny", "detectors ablated", "esr_rate") in found
        assert (5, "tiny", "self_monitor", "esr_rate") in found
        assert (8, "tiny", "unsteered", "mean_first_score") in found
        assert all(m.organism for m in found.values())

    def test_degraded_responses_are_left_out_on_request(self, tmp_path: Path) -> None:
        trials = arm_of_trials("steered", 1, 10)
        trials[0]["response"] = "lava " * 9
        write_run(tmp_path, "experiment_01_esr", "a", trials)
        runs = selection.find([tmp_path])
        key = (1, "tiny", "steered", "esr_rate")
        assert by_key(measure(runs))[key].n == by_key(measure(runs, True))[key].n + 1

    def test_levels_of_the_sweep_by_distance_from_the_mean(self, tmp_path: Path) -> None:
        levels = [{"arm": f"boost-{k}", "boost": k, "sd": sd} for k, sd in ((1, -0.3333), (2, 1.0))]
        trials = [t for level in levels for t in arm_of_trials(str(level["arm"]), 5, 4)]
        extra = {"levels": levels}
        write_run(tmp_path, "experiment_02_multi_boost", "a", trials, config=LARGE, extra=extra)
        rows = compare(measure(selection.find([tmp_path])))
        run = {r.published.arm for r in rows if r.measured and r.published.experiment == 2}
        assert run == {"-0.33 sd", "+1 sd"}
        assert [sd_name(x) for x in (-3, -5 / 3, 1 / 3, 3)] == [
            *("-3 sd", "-1.67 sd", "+0.33 sd", "+3 sd")
        ]

    def test_fine_tuned_models_go_by_their_base(self, tmp_path: Path) -> None:
        config = {
            **LARGE,
            "model": "8b-sc-40",
            "base_model": "8b",
            "self_correction_percent": 40,
        }
        trials = arm_of_trials("steered", 5, 10) + arm_of_trials("unsteered", 6, 10)
        write_run(tmp_path, "experiment_04_finetuning", "a", trials, config=config)
        found = by_key(measure(selection.find([tmp_path])))
        assert {(model, arm) for _, model, arm, _ in found} == {("8b", "40 % self-correction")}
        assert found[4, "8b", "40 % self-correction", "esr_rate"].n < 51

    def test_random_sets_are_counted_together(self, tmp_path: Path) -> None:
        trials = [t for k in range(3) for t in arm_of_trials(f"random-{k + 1}", k, 10)]
        package = "experiment_10_random_latent_control"
        write_run(tmp_path, package, "a", trials, config=LARGE)
        found = by_key(measure(selection.find([tmp_path])))
        assert found[10, "70b", "random latents ablated", "esr_rate"].n > 100

    def test_unsteered_trials_of_large_models_are_pooled(self, tmp_path: Path) -> None:
        package = "experiment_08_no_steering_baseline"
        for model in ("70b", "8b"):
            config = {"model": model, "model_title": model, "organism": False}
            write_run(tmp_path, package, model, arm_of_trials("no-steering", 1, 10), config=config)
        found = by_key(measure(selection.find([tmp_path])))
        both = found[8, "all", "unsteered", "multi_attempt_rate"]
        parts = [found[8, m, "unsteered", "multi_attempt_rate"] for m in ("70b", "8b")]
        assert both.n == sum(p.n for p in parts)
        assert both.title == "2 of 5 models"

    def test_baselines_judges_and_held_out_prompts(self, tmp_path: Path) -> None:
        trials = arm_of_trials("ablation", 2, 10)
        summary = metrics.summary([], 0)
        risk = {"risk_ratio": 0.6, "risk_ratio_interval": [0.5, 0.8]}
        arm = {"summary": summary, "comparison": {"multi_attempt_rate": risk}}
        extra = {"arms": {"ablation": arm}, "baseline": metrics.summary([], 0)}
        package = "experiment_03_off_topic_detectors"
        write_run(tmp_path, package, "a", trials, config=LARGE, extra=extra)
        held = {**LARGE, "model": "8b", "prompts": "held-out"}
        write_run(tmp_path, package, "b", trials, config=held, extra=extra)
        pairs = {"agreement": [_pair(0.97, 0.8), _pair(0.91, None)]}
        write_run(tmp_path, "experiment_07_cross_judge", "c", [], config=LARGE, extra=pairs)
        found = by_key(measure(selection.find([tmp_path])))
        assert (3, "70b", "baseline", "esr_rate") in found
        key = (3, "8b", "detectors ablated, held-out prompts", "multi_attempt_reduction")
        assert found[key].value == pytest.approx(40)
        assert (found[key].low, found[key].high) == pytest.approx((20, 50))
        assert (3, "8b", "detectors ablated", "esr_rate") not in found
        agreement = found[7, "all", "judge pairs", "agreement on multi-attempt"]
        assert (agreement.value, agreement.low, agreement.high) == (None, 91, 97)

    def test_newest_complete_run_and_never_the_fault_of_the_fork(self, tmp_path: Path) -> None:
        for run_id, started, status in (
            ("old", "2026-01-01", "complete"),
            ("new", "2026-01-03", "complete"),
            ("broken", "2026-01-05", "interrupted"),
        ):
            facts = {"started": started, "status": status}
            write_run(
                tmp_path, "experiment_01_esr", run_id, arm_of_trials("steered", 1, 4), facts=facts
            )
        wrong = {"pairing": "scheduler-order"}
        facts = {"started": "2026-01-06"}
        trials = arm_of_trials("steered", 1, 4)
        write_run(tmp_path, "experiment_01_esr", "fork", trials, config=wrong, facts=facts)
        assert {m.run for m in measure(selection.find([tmp_path]))} == {"1-tiny-new"}

    def test_a_newer_smaller_run_does_not_silently_stand_for_a_larger_one(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for run_id, started, n in (("old", "2026-01-01", 9), ("new", "2026-01-03", 4)):
            facts = {"started": started}
            trials = arm_of_trials("steered", 1, n)
            write_run(tmp_path, "experiment_01_esr", run_id, trials, facts=facts)
        assert {m.run for m in measure(selection.find([tmp_path]))} == {"1-tiny-new"}
        (line,) = capsys.readouterr().err.splitlines()
        large = tmp_path / "experiment_01_esr" / "tiny" / "old"
        assert f"{large} has " in line
        assert line.endswith(f"--run {large} takes the larger run")
        named = measure(selection.find([tmp_path], runs=[large]))
        assert {m.run for m in named} == {"1-tiny-old"}
        assert capsys.readouterr().err == ""

    def test_a_file_of_the_authors(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, "experiment_01_esr", "a", arm_of_trials("steered", 1), config={})
        theirs = tmp_path / "theirs.json"
        data = json.loads((run / "results.json").read_text())
        data["experiment_config"] = {
            "model_name": "meta-llama/Llama-3.3-70B-Instruct",
            "judge_model_name": "claude-haiku-4-5-20251001",
        }
        for feature in data["results_by_feature"]:
            for item in feature["trials"]:
                del item["arm"], item["trial_id"]
        theirs.write_text(json.dumps(data))
        found = by_key(measure(selection.find([theirs])))
        assert found[1, "70b", "steered", "esr_rate"].n == 197
        assert not any(m.organism for m in found.values())
        data["experiment_config"]["prompt_variant_id"] = "self_monitor"
        theirs.write_text(json.dumps(data))
        assert (5, "70b", "self_monitor", "esr_rate") in by_key(measure(selection.find([theirs])))


def _pair(multi: float, direction: float | None) -> dict[str, Any]:
    return {"multi": {"value": multi, "n": 50}, "direction": {"value": direction, "n": 5}}
