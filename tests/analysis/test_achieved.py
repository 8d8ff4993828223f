"""What calibration achieved, counted by hand."""

from __future__ import annotations

from esr.analysis import achieved
from esr.analysis.outcomes import Outcome
from esr.judge.base import Status

OUTCOMES = [
    Outcome(1, "a", (10.0, 80.0), Status.GRADED),  # improved
    Outcome(1, "b", (10.0,), Status.GRADED),
    Outcome(1, "c", None, Status.FAILED),
    Outcome(2, "a", (30.0, 20.0), Status.GRADED),  # several, not improved
    Outcome(2, "b", (50.0,), Status.GRADED),
    Outcome(3, "a", (90.0,), Status.GRADED),
    Outcome(4, "a", None, Status.NO_ATTEMPTS),
]


def test_scores_by_latent_and_those_far_from_the_target() -> None:
    assert achieved.achieved_scores(OUTCOMES) == {1: 10.0, 2: 40.0, 3: 90.0}
    entry = achieved.achieved(OUTCOMES, [0.5, 50.0, 99.5, 100.0], 0.0, 100.0)
    assert (entry["latents"], entry["below"], entry["above"]) == (3, 1, 1)
    assert entry["mean"] == (10 + 40 + 90) / 3
    assert (entry["thresholds"], entry["at_low_bound"], entry["at_high_bound"]) == (4, 1, 2)


def test_latents_without_a_threshold_count_as_none_and_as_all() -> None:
    entry = achieved.sensitivity(OUTCOMES, failed=2, n_trials=5)
    assert entry["trials"] == 10
    assert entry["multi_attempt_rate"] == [2 / 15, 12 / 15]
    assert entry["esr_rate"] == [1 / 15, 11 / 15]
    assert achieved.sensitivity([], 0, 5)["esr_rate"] == [None, None]


def test_lines() -> None:
    data = {
        "achieved": achieved.achieved(OUTCOMES, [50.0], 0.0, 100.0),
        "sensitivity": achieved.sensitivity(OUTCOMES, 2, 5),
    }
    first, second = achieved.lines(data)
    assert "of 3 latents 1 below 15, 1 above 45" in first
    assert "with 10 trials of 2 latents without a threshold" in second
    assert "ESR 6.67 to 73.33 %" in second
    assert achieved.lines({}) == []
    none = {"sensitivity": achieved.sensitivity(OUTCOMES, 0, 5)}
    assert achieved.lines(none) == []
