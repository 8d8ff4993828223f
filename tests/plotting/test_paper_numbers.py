"""The paper's numbers: the file, the rule of the verdict, and what is measured for each."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from esr.analysis.intervals import Proportion
from esr.models import REGISTRY
from plotting.measured import Measured
from plotting.published import (
    AGREES,
    DIFFERS,
    FILE,
    INCONCLUSIVE,
    NOT_COMPARABLE,
    NOT_RUN,
    Published,
    Row,
    document,
    verdict,
)
from tests.plotting.paper_rows import NUMBERS, ours, paper


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


def test_what_is_known_through_others_says_through_whom_and_is_no_target() -> None:
    secondary = [row for row in NUMBERS.values() if "secondary" in row.marks]
    assert len(secondary) >= 20
    assert all(row.reported_by for row in secondary)
    assert not any(row.reported_by for row in NUMBERS.values() if "secondary" not in row.marks)
    one = paper(3.6, marks=("secondary",), reported_by="a reader")
    assert verdict(one, ours(3.6, 3.0, 4.2)) == NOT_COMPARABLE
    assert verdict(replace(one, marks=("v1",)), ours(3.6, 3.0, 4.2)) == AGREES
    assert Row(one, None).plain()["reported_by"] == "a reader"
