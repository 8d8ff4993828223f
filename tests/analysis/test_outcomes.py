"""Outcomes from results files, degraded responses, and a summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from esr.analysis import metrics, quantities
from esr.analysis.outcomes import Outcome, degraded, outcomes_from_results
from esr.errors import UserError
from tests.made_up_outcomes import SMALL, random_outcomes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the the the the the end", True),
        ("the the the the end the", False),
        ("a a a a a a a", False),  # one character
        ("no, no, no, no, no,", True),
        ("well go go\ngo go\tgo", True),
        ("Go go Go go Go go", False),  # compared as they stand
        ("", False),
        ("ab", False),
        ("x x x x x word word word word word", True),
    ],
)
def test_degraded(text: str, expected: bool) -> None:
    assert degraded(text) is expected


def results(*trials: dict[str, Any]) -> dict[str, Any]:
    """A results file in the authors' schema."""
    feature = {
        "feature_index_in_sae": 7580,
        "feature_label": "body positions",
        "threshold": 9.4,
        "error": None,
        "trials": [
            {
                "prompt": "How?",
                "feature_index_in_sae": 7580,
                "seed": i,
                "response": "so so so so so" if i == 0 else "first this",
                "score": None,
                "error": None,
                **trial,
            }
            for i, trial in enumerate(trials)
        ],
    }
    broken = {"feature_index_in_sae": 3, "feature_label": "x", "threshold": None, "error": "lost"}
    return {"experiment_config": {}, "results_by_feature": [feature, {**broken, "trials": []}]}


def scored(*scores: float | None) -> dict[str, Any]:
    attempts = [{"attempt_text": "t", "score": score} for score in scores]
    return {"score": {"raw_response": "…", "attempts": attempts}}


class TestOutcomesFromResults:
    def test_statuses(self) -> None:
        data = results(
            scored(20, 80),
            scored(),
            {},
            {**scored(20, 80), "error": "timeout"},
            scored(20, None),
            scored(None, None),
            {"score": {"attempts": [], "status": "refused"}, "error": "judge: refused"},
            {"trial_id": "abc", **scored(55)},
        )
        found = outcomes_from_results(json.loads(json.dumps(data)))
        assert [o.status for o in found] == [
            *("graded", "no_attempts", "failed", "failed"),
            *("graded", "failed", "refused", "graded"),
        ]
        assert found[0].scores == (20, 80)
        assert found[4].scores == (20,), "an attempt without a score is left out"
        assert [o.degraded for o in found] == [True] + [False] * 7
        assert {o.latent for o in found} == {7580}
        assert found[0].trial_id == "7580/0/How?"
        assert found[7].trial_id == "abc"
        counts = metrics.tally(found)
        assert (counts.trials, counts.graded, counts.no_attempts, counts.failed) == (8, 3, 1, 4)

    def test_one_arm_of_several(self) -> None:
        data = results({"arm": "a", **scored(10)}, {"arm": "b", **scored(90)})
        assert [o.first for o in outcomes_from_results(data, arm="b")] == [90]
        assert len(outcomes_from_results(data)) == 2

    @pytest.mark.parametrize(
        "data",
        [
            {},
            {"results_by_feature": 3},
            {"results_by_feature": ["x"]},
            {"results_by_feature": [{"trials": [{}]}]},
            {"results_by_feature": [{"feature_index_in_sae": 1, "trials": [scored("high")]}]},  # type: ignore[arg-type]
            {"results_by_feature": [{"feature_index_in_sae": 1, "trials": [{"score": 3}]}]},
        ],
    )
    def test_what_is_not_a_results_file(self, data: dict[str, Any]) -> None:
        with pytest.raises(UserError, match="not a results file"):
            outcomes_from_results(data)


class TestSummary:
    def test_holds_the_numbers_of_the_single_functions(self) -> None:
        outcomes = random_outcomes(8) + SMALL[6:]
        found: Mapping[str, Any] = metrics.summary(outcomes, seed=5)
        assert found["counts"]["trials"] == len(outcomes)
        rate = metrics.esr_rate(outcomes)
        assert (found["esr_rate"]["count"], found["esr_rate"]["n"]) == (rate.count, rate.n)
        for key, ratio in (
            ("multi_attempt_rate", quantities.MULTI_ATTEMPT),
            ("conditional_improvement_rate", quantities.CONDITIONAL_IMPROVEMENT),
            ("esr_rate", quantities.ESR),
            ("mean_first_score", quantities.FIRST_SCORE),
            ("redraw_null", quantities.REDRAW_NULL),
        ):
            interval = quantities.cluster_interval(outcomes, ratio, seed=5)
            assert interval is not None
            assert found[key]["cluster_interval"] == [interval.low, interval.high]
        null = metrics.redraw_null(outcomes)
        assert found["redraw_null"]["rate"] == null.rate
        assert found["redraw_null"]["excess"] == null.excess
        assert found["score_changes"] == metrics.score_changes(outcomes)

    @pytest.mark.parametrize("outcomes", [[], SMALL[6:], SMALL[1:3], SMALL])
    def test_is_plain_json_whatever_is_missing(self, outcomes: list[Outcome]) -> None:
        found = metrics.summary(outcomes, seed=0)
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    def test_same_seed_same_summary(self) -> None:
        outcomes = random_outcomes(9)
        assert metrics.summary(outcomes, 1) == metrics.summary(list(outcomes), 1)
