"""A judge's multi-attempts beside the restart gate, counted by hand."""

from __future__ import annotations

from esr.analysis import metrics, tables
from esr.analysis.outcomes import Outcome, outcomes_from_results
from esr.analysis.restarts import restart_gate
from esr.judge.base import Status

TWICE = "The lava flows downhill. Wait, that's not right. Remove the wheel from the bicycle."
ONCE = "Remove the wheel from the bicycle and patch the tube."


def outcome(name: str, scores: tuple[float, ...], announced: bool | None) -> Outcome:
    return Outcome(
        1, name, scores or None, Status.GRADED if scores else Status.FAILED, announced=announced
    )


OUTCOMES = [
    outcome("a", (10, 90), True),
    outcome("b", (10, 90), False),
    outcome("c", (10, 5), False),
    outcome("d", (10,), True),
    *(outcome(f"e{i}", (50,), False) for i in range(4)),
    outcome("not graded", (), True),
    outcome("text unknown", (10, 20), None),
]


def test_counts_by_hand() -> None:
    expected = {"n": 8, "both": 1, "judge_only": 2, "gate_only": 1, "neither": 4}
    assert restart_gate(OUTCOMES) == expected
    assert metrics.summary(OUTCOMES, 0)["restart_gate"] == expected
    assert restart_gate([]) == dict.fromkeys(expected, 0)


def test_one_line_in_the_terminal() -> None:
    table = tables.summary_table("arm", metrics.summary(OUTCOMES, 0), organism=False)
    (line,) = [line for line in table.splitlines() if "announced" in line]
    assert line == (
        "  restarts, of 8 graded: judge and announced 1, judge only 2, announced only 1"
    )
    older = {k: v for k, v in metrics.summary(OUTCOMES, 0).items() if k != "restart_gate"}
    assert "announced" not in tables.summary_table("arm", older, organism=False)


def test_the_text_decides_not_what_the_judge_quotes() -> None:
    def trial(response: str | None, n: int) -> dict[str, object]:
        attempts = [{"attempt_text": "Wait, that's wrong.", "score": 10 * k} for k in range(n)]
        return {
            "prompt": "How do I mend a tyre?",
            "seed": 1,
            "response": response,
            "error": None,
            "score": {"attempts": attempts},
            "feature_index_in_sae": 3,
            "threshold": 1.0,
        }

    feature = {
        "feature_index_in_sae": 3,
        "threshold": 1.0,
        "trials": [
            trial(TWICE, 2) | {"seed": 1},
            trial(ONCE, 2) | {"seed": 2},
            trial(TWICE, 1) | {"seed": 3},
        ],
    }
    outcomes = outcomes_from_results({"results_by_feature": [feature]})
    assert [o.announced for o in outcomes] == [True, False, True]
    assert restart_gate(outcomes) == {
        "n": 3,
        "both": 1,
        "judge_only": 1,
        "gate_only": 1,
        "neither": 0,
    }
