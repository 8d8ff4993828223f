"""The paper's numbers: the file, the rule of the verdict, and what is measured for each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from esr.analysis import metrics
from esr.analysis.intervals import Proportion
from esr.analysis.outcomes import outcomes_from_results
from esr.models import REGISTRY
from plotting import latex, paper_numbers, selection
from plotting.measured import Measured, measure, sd_name
from plotting.published import (
    AGREES,
    DIFFERS,
    FILE,
    INCONCLUSIVE,
    NOT_COMPARABLE,
    NOT_RUN,
    Published,
    Row,
    compare,
    document,
    published,
    verdict,
)
from tests.made_up_runs import a_family, arm_of_trials, write_run

NUMBERS = {row.id: row for row in published()}
LARGE = {"model": "70b", "model_title": "Llama-3.3-70B", "organism": False}


def paper(value: float | None = 4.0, **changes: Any) -> Published:
    fields: dict[str, Any] = {"digits": 1, "marks": ("v1",), "unit": "%", "where": "x", **changes}
    return Published("x", 1, "70b", "steered", "esr_rate", value=value, **fields)


def ours(value: float | None, low: float | None, high: float | None, **changes: Any) -> Measured:
    fields: dict[str, Any] = {"n": 100, "count": 4, "unit": "%", "organism": False, "run": "r"}
    return Measured(
        *(1, "70b", "Llama-3.3-70B", "steered", "esr_rate", value, low, high),
        **{**fields, **changes},
    )


def percent(count: int, n: int) -> tuple[float, float]:
    """Wilson's interval."""
    low, high = Proportion(count, n).wilson()
    return 100 * low, 100 * high


def test_smallest_difference_is_seen_in_four_of_five_runs() -> None:
    """Brute force: runs whose true value lies so far off, each with an interval of +-1.96."""
    row = Row(paper(50.0), ours(50.0, 50 - 1.96, 50 + 1.96))
    smallest = row.smallest_difference
    assert smallest is not None
    assert smallest == pytest.approx(2.8, abs=0.01)
    draws = np.random.default_rng(0).normal(50 + smallest, 1, 20_000)
    assert np.mean(np.abs(draws - 50) > 1.96) == pytest.approx(0.8, abs=0.01)
    assert row.plain()["smallest_difference"] == smallest
    assert Row(paper(4.0), None).smallest_difference is None


class TestFile:
    def test_every_number_has_a_source_mark_and_a_place(self) -> None:
        for row in NUMBERS.values():
            assert row.marks
            assert set(row.marks) <= set(document()["marks"]), row.id
            assert row.where, row.id
            assert str(row.experiment) in document()["experiments"], row.id
            assert (row.value is None) != (row.span is None), row.id

    def test_ids_are_unique(self) -> None:
        assert len(NUMBERS) == len(json.loads(FILE.read_text())["numbers"])

    def test_every_experiment_is_there(self) -> None:
        assert {row.experiment for row in NUMBERS.values()} == set(range(11))

    def test_counts_give_the_printed_rates(self) -> None:
        counted = [r for r in NUMBERS.values() if r.count is not None and r.n and r.unit == "%"]
        assert len(counted) >= 8
        for row in counted:
            assert row.value is not None
            assert row.count is not None
            assert row.n is not None
            assert abs(100 * row.count / row.n - row.value) <= row.rounding + 1e-9, row.id

    @pytest.mark.parametrize(
        ("key", "value", "n", "marks"),
        [
            ("1/70b/steered/multi_attempt_rate", 7.38, 4877, ("v1",)),
            ("1/gemma-2b/steered/mean_first_score", 29.7, 4948, ("px",)),
            ("2/70b/-0.33 sd/multi_attempt_rate", 2.67, None, ("px",)),
            ("3/70b/detectors ablated/esr_rate", 2.81, 4875, ("v1",)),
            ("4/8b/90 % self-correction/esr_rate", 20.5, None, ("px",)),
            ("5/70b/self_monitor/multi_attempt_rate", 31.7, None, ("v1", "px")),
            ("8/8b/unsteered/mean_first_score", 87.8, None, ("v1",)),
            ("9/70b/latent 41038/Cohen's d", -0.76, None, ("v1",)),
            ("10/70b/random latents ablated/multi_attempt_rate", 7.9, 14450, ("v1",)),
            ("0/70b/contrastive concept vectors/esr_rate", 3.6, None, ("secondary",)),
        ],
    )
    def test_samples(self, key: str, value: float, n: int | None, marks: tuple[str, ...]) -> None:
        assert (NUMBERS[key].value, NUMBERS[key].n, NUMBERS[key].marks) == (value, n, marks)

    def test_numbers_are_told_as_printed(self) -> None:
        assert NUMBERS["10/70b/random latents ablated/multi_attempt_rate"].printed == "7.90"
        assert NUMBERS["1/70b/steered/conditional_improvement_rate"].printed == "52"
        assert NUMBERS["7/all/judge pairs/agreement on direction"].printed == "90 to 96"

    def test_26_detectors_with_three_numbers_each(self) -> None:
        ids = {r.arm for r in NUMBERS.values() if r.arm.startswith("latent ")}
        assert len(ids) == 26
        assert sum(r.arm in ids for r in NUMBERS.values()) == 78

    def test_the_registry_has_the_published_settings(self) -> None:
        settings = json.loads(FILE.read_text())["settings"]
        for key, known in settings["models"].items():
            spec = REGISTRY[key]
            for name in ("steering_layer", "feature_layer", "d_sae"):
                assert getattr(spec, name) == known[name], (key, name)
            depth = 100 * spec.steering_layer / known["layers"]
            assert abs(depth - known["depth_percent"]) <= 0.1, key
        for key, known in settings["calibration"].items():
            spec = REGISTRY[key]
            assert spec.in_flight == known.pop("in_flight")
            assert {k: getattr(spec.calibration, k) for k in known} == known
            assert spec.calibration.max_tokens == settings["generation"]["calibration_max_tokens"]
            assert spec.max_tokens == settings["generation"]["max_tokens"]
            release = settings["generation"]["release_repetition_penalty"]
            assert spec.profile("paper").repetition_penalty == 1.1
            if spec.key in ("70b", "8b"):
                assert spec.profile("release").repetition_penalty == release[key]


class TestVerdict:
    @pytest.mark.parametrize(
        ("published_number", "measured", "expected"),
        [
            (paper(4.0), ours(5.0, 3.5, 6.0), AGREES),
            (paper(4.0), ours(5.0, 4.5, 6.0), DIFFERS),
            (paper(4.0, n=500), ours(5.0, 4.5, 6.0), AGREES),
            (paper(4.0, n=5000), ours(5.0, 4.5, 6.0), DIFFERS),
            (paper(4.0), ours(5.0, 4.04, 6.0), AGREES),
            (paper(4.0), ours(5.0, 4.06, 6.0), DIFFERS),
            (paper(4.0, marks=("px",)), ours(5.0, 4.09, 6.0), AGREES),
            (paper(0.0, n=7892), ours(0.02, 0.01, 0.04), AGREES),
            (paper(0.0, n=7892), ours(0.2, 0.1, 0.4), DIFFERS),
            (paper(None, span=(90.0, 96.0)), ours(None, 80.0, 91.0), AGREES),
            (paper(None, span=(90.0, 96.0)), ours(None, 80.0, 89.0), DIFFERS),
            (paper(None, span=(30.0, 45.0)), ours(20.0, 5.0, 31.0), AGREES),
            (paper(3.83), ours(0.0, *percent(0, 20)), INCONCLUSIVE),
            (paper(3.83), ours(0.0, *percent(0, 75)), INCONCLUSIVE),
            (paper(3.83), ours(0.0, *percent(0, 150)), DIFFERS),
            (paper(4.0), ours(5.0, 2.0, 6.1), INCONCLUSIVE),
            (paper(4.0), ours(5.0, 2.0, 5.9), AGREES),
            (paper(0.0, n=7892), ours(0.0, 0.0, 0.3), AGREES),
            (paper(40.0, unit="score"), ours(40.0, 0.0, 90.0, unit="score"), AGREES),
            (paper(4.0), None, NOT_RUN),
            (paper(4.0), ours(4.0, None, None), NOT_COMPARABLE),
            (paper(4.0), ours(4.0, 3.0, 5.0, organism=True), NOT_COMPARABLE),
        ],
    )
    def test_rule(
        self, published_number: Published, measured: Measured | None, expected: str
    ) -> None:
        assert verdict(published_number, measured) == expected

    def test_the_paper_agrees_with_itself(self) -> None:
        """A measurement that hits a published value exactly never differs from it."""
        for row in NUMBERS.values():
            if row.value is not None and "secondary" not in row.marks:
                same = ours(row.value, row.value, row.value)
                assert verdict(row, same) == AGREES, row.id

    def test_paper_interval_is_the_printed_one(self) -> None:
        """v1 prints 6.65 to 8.11 for 7.38 % of 4,877."""
        low, high = NUMBERS["1/70b/steered/multi_attempt_rate"].interval
        assert (round(low, 2), round(high, 2)) == (6.65, 8.11)


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


class TestComparison:
    def test_an_organism_is_shown_and_never_compared(self, tmp_path: Path) -> None:
        a_family(tmp_path)
        rows = compare(measure(selection.find([tmp_path])))
        shown = [row for row in rows if row.measured]
        assert {row.verdict for row in shown} == {NOT_COMPARABLE}
        assert {row.verdict for row in rows if not row.measured} == {NOT_RUN}
        assert sum(row.verdict == NOT_RUN for row in rows) == len(NUMBERS)
        assert "not evidence about large models" in paper_numbers.terminal(rows)

    def test_table_names_what_is_missing_only_on_request(self) -> None:
        rows = compare([ours(5.0, 4.5, 6.0)])
        assert "5.00 (4.50 to 6.00)" in paper_numbers.terminal(rows)
        assert "Published: [v1] printed in v1 (6 February 2026)." in paper_numbers.terminal(rows)
        assert "[px]" not in paper_numbers.terminal(rows)
        assert "gemma-27b" not in paper_numbers.terminal(rows)
        assert "gemma-27b" in paper_numbers.terminal(rows, everything=True)
        assert f"not run: {len(NUMBERS) - 1}" in paper_numbers.terminal(rows)


class TestLatex:
    def test_names_are_letters_and_unique(self) -> None:
        text = latex.macros(compare([]))
        names = re.findall(r"\\newcommand\{\\([^}]*)\}", text)
        assert len(names) == len(set(names)) == len(NUMBERS)
        assert all(re.fullmatch("[A-Za-z]+", name) for name in names)

    def test_measured_numbers_are_defined_and_others_are_not(self) -> None:
        text = latex.macros(compare([ours(5.0, 4.5, 6.0)]))
        assert r"\newcommand{\esrRateLlamaSeventy}{5.00}" in text
        assert r"\newcommand{\esrRateLlamaSeventyLow}{4.50}" in text
        assert r"\newcommand{\esrRateLlamaSeventyPaper}{3.83}" in text
        assert r"\newcommand{\esrRateLlamaSeventyVerdict}{differs}" in text
        assert r"\newcommand{\multiAttemptRateLlamaSeventy}{" not in text

    def test_an_organism_has_its_own_name(self) -> None:
        tiny = replace(ours(5.0, 4.5, 6.0), model="tiny", title="tiny organism", organism=True)
        text = latex.macros(compare([tiny]))
        assert r"\newcommand{\esrRateTinyOrganism}{5.00}" in text
        assert r"\newcommand{\esrRateLlamaSeventy}{" not in text
        assert r"\esrRateTinyOrganismPaper" not in text

    def test_digits_and_signs_are_spelled(self) -> None:
        assert latex.letters("-0.33 sd") == "MinusZeroPointThreeThreeSd"
        assert latex.letters("10 % self-correction") == "OneZeroPercentSelfCorrection"


class TestCommand:
    def test_writes_csv_and_macros(self, tmp_path: Path, capsys: Any) -> None:
        a_family(tmp_path / "results")
        arguments = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "out")]
        assert paper_numbers.main(arguments) == 0
        table = pd.read_csv(tmp_path / "out" / "paper_numbers.csv")
        assert set(table.verdict) == {NOT_RUN, NOT_COMPARABLE}
        measured = table[table.verdict == NOT_COMPARABLE]
        assert len(measured) == 11
        assert measured.run.str.startswith(("1-", "3-", "5-", "8-")).all()
        assert not math.isnan(measured.measured_low.iloc[0])
        assert "esrRateTinyOrganism" in (tmp_path / "out" / "paper_numbers.tex").read_text()
        assert "not comparable: 11" in capsys.readouterr().out

    def test_only_one_model_or_judge(self, tmp_path: Path, capsys: Any) -> None:
        a_family(tmp_path / "results")
        base = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "out")]
        for chosen in (["--model", "8b"], ["--judge", "haiku"]):
            assert paper_numbers.main([*base, *chosen]) == 0
            assert "not comparable: 0" in capsys.readouterr().out

    def test_judges_go_by_their_short_name_too(self, tmp_path: Path) -> None:
        config = {**LARGE, "judge_id": "claude-haiku-4-5-20251001"}
        write_run(tmp_path, "experiment_01_esr", "a", arm_of_trials("steered", 1, 4), config=config)
        for name, count in (("haiku", 1), ("claude-haiku-4-5-20251001", 1), ("sonnet", 0)):
            assert len(selection.find([tmp_path], judge=name)) == count

    def test_bad_input_is_one_line(self, tmp_path: Path, capsys: Any) -> None:
        assert paper_numbers.main(["--results", str(tmp_path / "nothing")]) == 2
        error = capsys.readouterr().err
        assert "no such results" in error
        assert len(error.splitlines()) == 1

    def test_a_broken_run_is_told_and_left_out(self, tmp_path: Path, capsys: Any) -> None:
        a_family(tmp_path)
        (tmp_path / "experiment_01_esr" / "tiny" / "aaaa" / "results.json").write_text("{")
        assert len(selection.find([tmp_path])) == 3
        assert ": left out" in capsys.readouterr().err


def test_rows_of_the_table_are_plain() -> None:
    row = Row(paper(4.0), ours(5.0, 4.5, 6.0)).plain()
    assert row["measured_value"] == 5.0
    assert row["run"] == "r"
    assert row["verdict"] == DIFFERS


def test_what_is_known_through_others_says_through_whom_and_is_no_target() -> None:
    secondary = [row for row in NUMBERS.values() if "secondary" in row.marks]
    assert len(secondary) >= 20
    assert all(row.reported_by for row in secondary)
    assert not any(row.reported_by for row in NUMBERS.values() if "secondary" not in row.marks)
    one = paper(3.6, marks=("secondary",), reported_by="a reader")
    assert verdict(one, ours(3.6, 3.0, 4.2)) == NOT_COMPARABLE
    assert verdict(replace(one, marks=("v1",)), ours(3.6, 3.0, 4.2)) == AGREES
    assert Row(one, None).plain()["reported_by"] == "a reader"
