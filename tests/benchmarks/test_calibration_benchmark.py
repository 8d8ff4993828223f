"""The calibration benchmark: its worlds are what they are called, its methods run on them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibration
from benchmarks.calibration import Errors
from benchmarks.calibration_worlds import Recorded, Simulated
from esr import models


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("graded", [False, True])
def test_simulated_scores_have_the_mean_and_variance_they_are_said_to(
    graded: bool, relative: bool
) -> None:
    world = Simulated.of(20, graded=graded, relative=relative, seed=0)
    assert world.n == 20
    assert world.mean(world.thresholds) == pytest.approx(np.full(20, 0.3))
    rng = np.random.default_rng(0)
    boosts = world.thresholds + world.scales
    p = world.mean(boosts)
    drawn = np.array([world.draw(boosts, rng) for _ in range(4000)])
    assert drawn.mean(axis=0) == pytest.approx(p, abs=0.03)
    share = 0.2 if graded else 1.0
    assert drawn.var(axis=0) == pytest.approx(share * p * (1 - p), rel=0.15)


def recorded(folder: Path) -> Recorded:
    """Two latents; of a third nothing passes the target."""
    curves = {
        "1": {"10.0": [100, 80], "20.0": [60, 40], "30.0": [0, 10]},
        "2": {"10.0": [90, 90], "20.0": [0, 20], "30.0": [20, 10]},
        "3": {"10.0": [90, 90], "20.0": [80, 80], "30.0": [50, 60]},
    }
    file = folder / "curves.json"
    file.write_text(json.dumps({"model": "tiny", "curves": curves}))
    return Recorded.of(file)


def test_recorded_curves_by_hand(tmp_path: Path) -> None:
    world = recorded(tmp_path)
    assert world.n == 2
    # 0.9, 0.5, 0.05; and 0.9, then 0.1 and 0.15 made to fall: 0.125 both.
    assert world.means == pytest.approx(np.array([[0.9, 0.5, 0.05], [0.9, 0.125, 0.125]]))
    assert world.thresholds == pytest.approx([20 + 10 * 0.2 / 0.45, 10 + 10 * 0.6 / 0.775])
    assert world.mean(np.array([25.0, 15.0])) == pytest.approx([0.275, 0.5125])
    rng = np.random.default_rng(0)
    drawn = np.array([world.draw(np.array([25.0, 10.0]), rng) for _ in range(4000)])
    assert set(drawn[:, 0]) == {0.6, 0.4, 0.0, 0.1}
    assert set(drawn[:, 1]) == {0.9}
    assert drawn[:, 0].mean() == pytest.approx(0.275, abs=0.02)


def test_errors_over_replays_by_hand() -> None:
    replays = [Errors(3.0, 1.0, 0.9), Errors(4.0, -2.0, 1.0)]
    over = Errors.over(replays)
    assert (over.rmse, over.bias) == pytest.approx((math.sqrt(12.5), -0.5))
    assert over.coverage == pytest.approx(0.95)
    assert Errors.over(replays[:1]) == replays[0]


def test_errors_by_hand() -> None:
    prior = models.get("70b").calibration
    world = Simulated(np.array([5.0, 5.0]), np.array([1.0, 1.0]), False, prior)
    ends = np.array([[4.0, 6.0], [5.5, 6.0]])
    found = Errors.of(world, np.array([5.0, -100.0]), ends)
    assert found.rmse == pytest.approx(70 / np.sqrt(2))
    assert found.bias == pytest.approx(35.0)
    assert found.coverage == 0.5


def test_methods_come_near_the_threshold_and_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SPENT", (3, 12))
    world = Simulated.of(25, graded=True, relative=False, seed=0)
    ours = calibration.curves(world, pooled=True, seed=0)
    assert ours == calibration.curves(world, pooled=True, seed=0)
    assert ours[12].rmse < ours[3].rmse
    assert ours[12].rmse < 10
    few = Simulated.of(5, graded=True, relative=False, seed=0)
    assert calibration.paper(few, 5, 0).rmse < 20


def test_only_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = tmp_path / "statistics.md"
    first, last = calibration.MARKS
    document.write_text(f"before\n{first}\nold\n{last}\nafter\n")
    monkeypatch.setattr(calibration, "DOCUMENT", document)
    calibration.write("table")
    assert document.read_text() == f"before\n{first}\ntable\n{last}\nafter\n"
    committed = Path(calibration.__file__).parents[1] / "docs" / "statistics.md"
    assert all(mark in committed.read_text(encoding="utf-8") for mark in calibration.MARKS)
