"""Adaptive calibration: the curves against brute force and simulation, and the loop around them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.pipeline import curves
from esr.pipeline.calibration import calibrate
from esr.pipeline.cli import CommonConfig
from esr.pipeline.constants import TRIES_PER_ROUND
from esr.pipeline.curves import LAPSE, Curves
from esr.pipeline.schema import Threshold
from esr.pipeline.settings import resolve, settings_of
from esr.pipeline.stages import calibration_stage
from tests import scripted


def fresh(n: int, *, pooled: bool = True) -> Curves:
    return Curves(n, mean=7.0, sd=5.0, low=0.0, high=100.0, target=30.0, pooled=pooled)


def test_posterior_by_brute_force() -> None:
    """One latent on its own: Bayes' rule written out on another grid."""
    fitted = fresh(1, pooled=False)
    seen = [(6.0, 100.0), (9.0, 0.0), (7.0, 40.0), (8.0, 100.0), (12.5, 0.0)]
    for boost, score in seen:
        fitted.observe([0], [boost], [score])
    thresholds = np.linspace(0.01, 40, 4001)
    scales = fitted.scales
    start = fitted.start
    share = (0.3 - LAPSE) / (1 - 2 * LAPSE)
    log_mass = (
        -0.5 * ((thresholds[:, None] - 7) / 5) ** 2
        - 0.5 * ((np.log(scales) - start.log_scale) / start.log_scale_sd) ** 2
    )
    for boost, score in seen:
        z = math.log(share / (1 - share)) - (boost - thresholds[:, None]) / scales
        p = LAPSE + (1 - 2 * LAPSE) / (1 + np.exp(-z))
        log_mass = log_mass + score / 100 * np.log(p) + (1 - score / 100) * np.log(1 - p)
    mass = np.exp(log_mass - log_mass.max())
    level = np.cumsum(mass.sum(axis=1)) / mass.sum()
    (found,) = fitted.thresholds()
    assert found.low == pytest.approx(float(np.interp(0.025, level, thresholds)), abs=0.15)
    assert found.high == pytest.approx(float(np.interp(0.975, level, thresholds)), abs=0.15)
    z = math.log(share / (1 - share)) - (found.value - thresholds[:, None]) / scales
    p = LAPSE + (1 - 2 * LAPSE) / (1 + np.exp(-z))
    assert float((mass * p).sum() / mass.sum()) == pytest.approx(0.3, abs=0.005)
    error = 100 * math.sqrt(float((mass * (p - 0.3) ** 2).sum() / mass.sum()))
    assert found.error == pytest.approx(error, abs=0.3)


def test_the_next_boost_leaves_the_least_expected_variance() -> None:
    fitted = fresh(1, pooled=False)
    for boost, score in ((5.0, 100.0), (11.0, 0.0), (8.0, 100.0)):
        fitted.observe([0], [boost], [score])
    mass = fitted.posterior()[0]
    position = fitted.position[:, None]
    left = []
    for index in range(fitted.grid.size):
        expected = 0.0
        for likelihood in (fitted.expected[index], 1 - fitted.expected[index]):
            updated = mass * likelihood
            chance = updated.sum()
            mean = (updated * position).sum() / chance
            expected += chance * (updated * (position - mean) ** 2).sum() / chance
        left.append(expected)
    assert fitted.next_boosts([0]) == [float(fitted.grid[int(np.argmin(left))])]


@pytest.mark.parametrize(("graded", "dispersion"), [(False, 1.0), (True, 0.2)])
def test_many_latents_are_calibrated_without_bias_and_intervals_hold(
    graded: bool, dispersion: float
) -> None:
    """200 simulated latents, 12 responses each: error near the limit, bias small, coverage."""
    rng = np.random.default_rng(3)
    truth = rng.normal(7, 5, 900)
    truth = truth[truth > 0.5][:200]
    scales = np.exp(rng.normal(math.log(1.5), 0.4, truth.size))

    def score(boosts: np.ndarray) -> np.ndarray:
        return np.asarray(
            1 / (1 + np.exp(np.clip((boosts - truth) / scales + math.log(7 / 3), -30, 30)))
        )

    fitted, rows, n = fresh(truth.size), list(range(truth.size)), 12
    for _ in range(n):
        boosts = np.array(fitted.next_boosts(rows))
        p = np.clip(score(boosts), 1e-4, 1 - 1e-4)
        drawn = rng.beta(4 * p, 4 * (1 - p)) if graded else (rng.random(p.size) < p)
        fitted.observe(rows, boosts.tolist(), (100.0 * drawn).tolist())
    found = fitted.thresholds()
    error = 100 * score(np.array([f.value for f in found])) - 30
    limit = 100 * math.sqrt(0.21 * dispersion / n)
    assert math.sqrt((error**2).mean()) < 1.2 * limit
    assert abs(error.mean()) < 2.5
    inside = np.mean([f.low <= t <= f.high for f, t in zip(found, truth, strict=True)])
    assert 0.90 <= inside <= 0.995
    expected = math.sqrt(np.mean([f.error**2 for f in found]))
    assert expected == pytest.approx(math.sqrt((error**2).mean()), rel=0.2)
    population = fitted.population
    assert population.dispersion == pytest.approx(dispersion, abs=0.12)
    assert math.exp(population.log_scale) == pytest.approx(1.5, rel=0.3)
    assert population.mean == pytest.approx(truth.mean(), abs=0.8)


class CurveJudge:
    """First-attempt score 100 without boost, falling linearly; 30 at boost 7."""

    info = JudgeInfo("curve", "0" * 16)

    def __init__(self, mute: int = -1) -> None:
        self.calls = 0
        self.mute = mute

    async def grade(self, request: JudgeRequest) -> Verdict:
        self.calls += 1
        if request.latent_label == f"subject {self.mute}":
            return Verdict(Status.NO_ATTEMPTS)
        boost = float(request.response.split()[0])
        score = max(0.0, min(100.0, 100.0 - 10.0 * boost))
        return Verdict(Status.GRADED, (Attempt(request.response, score),))

    async def close(self) -> None:
        return None


@pytest.fixture
def _responses_name_their_boost(monkeypatch: pytest.MonkeyPatch) -> None:
    generate = scripted.ScriptedEngine.generate

    async def named(self, request):  # type: ignore[no-untyped-def]
        answer = await generate(self, request)
        boost = sum(i.value for i in request.interventions)
        return scripted.Generation(answer.request_id, (), f"{boost} said", "stop")

    monkeypatch.setattr(scripted.ScriptedEngine, "generate", named)
    original = scripted.spec
    prior = scripted.Calibration(4, 2, 5.0, 3.0, 0.0, 10.0)
    monkeypatch.setattr(scripted, "spec", lambda f: replace(original(f), calibration=prior))


async def run(folder: Path, judge: CurveJudge, latents: tuple[int, ...] = (3, 4, 5)):  # type: ignore[no-untyped-def]
    folder.mkdir(exist_ok=True)
    with scripted.open_run(folder) as opened:
        context = scripted.context(opened, folder, judge=judge)
        context.settings = {**context.settings, "adaptive": curves.identity()}
        return await calibrate(context, {k: f"subject {k}" for k in latents})


@pytest.mark.usefixtures("_responses_name_their_boost")
async def test_finds_the_root_with_few_responses(tmp_path: Path) -> None:
    judge = CurveJudge()
    found = await run(tmp_path, judge)
    assert list(found) == [3, 4, 5]
    for threshold in found.values():
        assert threshold.value == pytest.approx(7.0, abs=0.6)
        assert threshold.low < threshold.value < threshold.high
        assert threshold.method == "adaptive"
        assert threshold.expected_error is not None
        assert curves.LEAST <= threshold.rounds <= curves.RESPONSES
        assert threshold.expected_error <= curves.PRECISION or threshold.rounds == 20
        assert all(s == pytest.approx(100 - 10 * b) for b, s in threshold.scores)
    assert judge.calls == sum(threshold.rounds for threshold in found.values())


@pytest.mark.usefixtures("_responses_name_their_boost")
async def test_killed_at_any_round_it_goes_on_to_the_same_thresholds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("esr.pipeline.calibration.read_entry", lambda *_: None)
    whole = CurveJudge()
    expected = await run(tmp_path / "whole", whole)

    class Dying(CurveJudge):
        async def grade(self, request: JudgeRequest) -> Verdict:
            if self.calls >= 11:
                raise RuntimeError("killed")
            return await super().grade(request)

    (tmp_path / "cut").mkdir()
    dying, after = Dying(), CurveJudge()
    with pytest.raises(RuntimeError, match="killed"):
        await run(tmp_path / "cut" / "run", dying)
    assert await run(tmp_path / "cut" / "run", after) == expected
    assert dying.calls + after.calls == whole.calls, "an answered verdict was asked for again"


@pytest.mark.usefixtures("_responses_name_their_boost")
async def test_a_latent_without_scores_fails_and_the_others_do_not(tmp_path: Path) -> None:
    judge = CurveJudge(mute=4)
    found = await run(tmp_path, judge)
    failed = found[4]
    assert failed.value is None
    assert failed.rounds == 0
    assert failed.skipped == curves.RESPONSES
    assert failed.error == f"calibration: 0 of {curves.RESPONSES} rounds scored"
    assert found[3].value == pytest.approx(7.0, abs=0.6)
    asked = curves.RESPONSES * TRIES_PER_ROUND + found[3].rounds + found[5].rounds
    assert judge.calls == asked
    for threshold in found.values():
        assert Threshold(**vars(threshold)) == threshold


@pytest.mark.usefixtures("_responses_name_their_boost")
async def test_thresholds_are_cached_for_the_same_latents_alone(tmp_path: Path) -> None:
    judge = CurveJudge()
    first = await run(tmp_path / "a", judge)
    calls = judge.calls
    assert await run(tmp_path / "b", judge) == first
    assert judge.calls == calls
    await run(tmp_path / "c", judge, (3, 4))
    assert judge.calls > calls


def test_the_option_names_a_run_only_where_it_is_not_the_papers() -> None:
    paper, ours = CommonConfig(), CommonConfig(calibration="adaptive")
    assert "calibration" not in paper.identity()
    assert ours.identity() == {**paper.identity(), "calibration": "adaptive"}
    spec = resolve(paper)
    assert "adaptive" not in settings_of(paper, spec)
    assert settings_of(ours, spec)["adaptive"] == curves.identity()
    assert calibration_stage(paper, spec, 40).responses == 40 * 50
    stage = calibration_stage(ours, spec, 40)
    assert (stage.responses, stage.at_once) == (40 * curves.RESPONSES, 40)
