"""Experiment 2: the same trials at boosts common to all latents."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from esr.analysis import comparison, metrics, quantities
from esr.analysis.outcomes import outcomes_from_results
from esr.engine.base import Generation, GenerationRequest
from esr.errors import UserError
from esr.pipeline.experiment import main
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import Threshold
from esr.runs.plain import plain, restore
from esr.runs.results import read_results
from esr.steering.interventions import Boost
from experiment_02_multi_boost.config import Config
from experiment_02_multi_boost.levels import Level, Sweep, regions
from experiment_02_multi_boost.run import EXPERIMENT, show, specs
from plotting.plot_exp2 import figures
from plotting.sources import load_source
from tests import replaying, scripted


class Uneven(scripted.ScriptedEngine):
    """Latents differ in how strongly a boost acts, and so in their thresholds."""

    async def generate(self, request: GenerationRequest) -> Generation:
        scaled = tuple(replace(b, value=b.value * (0.5 + b.latent / 60)) for b in _boosts(request))
        return await super().generate(replace(request, interventions=scaled))


def _boosts(request: GenerationRequest) -> list[Boost]:
    return [item for item in request.interventions if isinstance(item, Boost)]


@pytest.fixture(autouse=True)
def _uneven(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "ScriptedEngine", Uneven)


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


def thresholds(*values: float | None) -> dict[int, Threshold]:
    return {i: Threshold(i, v, 0.0, 0.0, 1, 0) for i, v in enumerate(values)}


class TestLevels:
    def test_ten_boosts_over_three_standard_deviations(self) -> None:
        found = Sweep.over(thresholds(8.0, 12.0, None), 10, 3.0)
        assert (found.mean, found.std, found.thresholds) == (10.0, 2.0, 2)
        boosts = [level.boost for level in found.levels]
        np.testing.assert_allclose(boosts, np.linspace(4, 16, 10), atol=5e-5)
        np.testing.assert_allclose([v.sd for v in found.levels], np.linspace(-3, 3, 10), atol=1e-4)
        assert len({level.arm for level in found.levels}) == 10

    def test_negative_boosts_are_clipped_and_coincide(self) -> None:
        """The four lowest would all be 0: one level, so that no trial is counted four times."""
        found = Sweep.over(thresholds(0.0, 20.0), 10, 3.0)
        assert found.levels[0] == Level("boost-0.0", 0.0, -1.0)
        assert len(found.levels) == 7
        assert [level.boost > 0 for level in found.levels] == [False] + [True] * 6

    def test_one_threshold_has_no_spread(self) -> None:
        with pytest.raises(UserError, match="1 different thresholds"):
            Sweep.over(thresholds(7.0, 7.0, None), 10, 3.0)

    def test_json(self) -> None:
        found = Sweep.over(thresholds(8.0, 12.0), 10, 3.0)
        assert restore(Sweep, plain(found)) == found

    def test_regions(self) -> None:
        found = regions(Sweep.over(thresholds(8.0, 12.0), 10, 3.0).levels)
        assert [len(found[name]) for name in ("below", "near", "above")] == [3, 4, 3]


async def test_specs_share_prompts_and_seeds_over_boosts(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context = replaying.context(run, tmp_path, replayed)
        made = await specs(Config(n_latents=4), context)
        before = list(replayed.specs(context.prompts, context.sampling, n_latents=4))
    calibrated = [t.value for t in replayed.thresholds().values() if t.value is not None]
    mean, std = np.mean(calibrated), np.std(calibrated)
    levels = list(dict.fromkeys(spec.arm for spec in made))
    assert len(made) == 20 * len(levels)
    boosts = []
    for arm in levels:
        trials = [spec for spec in made if spec.arm == arm]
        boosts.append(trials[0].threshold)
        for spec, parents in zip(trials, before, strict=True):
            assert spec.interventions == (Boost(spec.latent, boosts[-1]),)
            assert spec.threshold == boosts[-1]
            assert replaying.condition_of(spec, parents) == parents
    # Mean and spread are those of all calibrated latents, not of the four in the sweep.
    expected = np.maximum(0, mean + std * np.linspace(-3, 3, 10))
    np.testing.assert_allclose(boosts, sorted(set(expected)), atol=5e-5)


async def test_without_a_run_thresholds_come_from_the_cache(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    """The parent filled the cache; nothing is calibrated again, and the trials are the same."""
    config = Config(n_latents=4, n_calibrated=6)
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context = replaying.context(run, tmp_path, None)
        made = await specs(config, context)
        # One latent's calibration met a verdict that failed: such a threshold is not cached.
        measured = {g["spec"]["latent"] for _, g in run.journal.values("generation")}
        assert len(measured) == 1
    with replaying.run_folder(EXPERIMENT.name, tmp_path / "other") as run:
        assert made == await specs(config, replaying.context(run, tmp_path, replayed))


async def test_without_a_run_and_a_cache_latents_are_calibrated(tmp_path: Path) -> None:
    path = await replaying.child_run(
        EXPERIMENT, Config(n_latents=2, n_calibrated=3), tmp_path, None
    )
    data = read_results(path).raw
    assert data["threshold_cache_stats"]["n"] == 3
    assert len(data["results_by_feature"]) == 2
    assert all(entry["calibration"]["rounds"] for entry in data["results_by_feature"])


async def test_results(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(n_latents=4)
    data = read_results(await replaying.child_run(EXPERIMENT, config, tmp_path, replayed)).raw
    assert data["boost_levels"] == [level["boost"] for level in data["levels"]]
    values = [t.value for t in replayed.thresholds().values() if t.value is not None]
    stats = data["threshold_cache_stats"]
    assert (stats["mean"], stats["std"]) == (np.mean(values), np.std(values))
    for level in data["levels"]:
        outcomes = outcomes_from_results(data, arm=level["arm"])
        assert len(outcomes) == 20
        assert level["summary"] == metrics.summary(outcomes, 0)
        trials = [t for e in data["results_by_feature"] for t in e["trials"]]
        assert {t["threshold"] for t in trials if t["arm"] == level["arm"]} == {level["boost"]}
    arms = regions([Level(v["arm"], v["boost"], v["sd"]) for v in data["levels"]])
    near, above = (
        [o for arm in arms[name] for o in outcomes_from_results(data, arm)]
        for name in ("near", "above")
    )
    found = comparison.compare(near, above, quantities.ESR, 0)
    assert data["shape"]["near_minus_above"]["esr_rate"] == plain(found)
    shown = show(data)
    assert shown.count("\n") == 2 + len(data["levels"]) + 3
    assert shown.endswith("asks again and may change their thresholds")
    assert "thresholds of 6 latents" in shown


async def test_resumes(tmp_path: Path, replayed: ReplayedRun) -> None:
    await replaying.resumes(EXPERIMENT, Config(n_latents=2), tmp_path, replayed, stop=31)


async def test_interrupted_while_calibrating(tmp_path: Path) -> None:
    with pytest.raises(asyncio.CancelledError):
        await replaying.child_run(EXPERIMENT, Config(n_latents=2), tmp_path, None, stop=5)
    run = replaying.run_folder(EXPERIMENT.name, tmp_path).path
    data = read_results(run).raw
    assert data["partial"]
    assert data["threshold_cache_stats"] == {"mean": None, "std": None, "n": 0}
    (drawn,) = figures([load_source(run)])
    assert "no such trials" in " ".join(text.get_text() for text in drawn.figure.findobj(Text))


def test_dry_run_of_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    shown = capsys.readouterr().out
    assert re.search(r"^  trials, 10 boosts +2,300 ", shown, re.MULTILINE)
    assert "the paper has 2,262 graded on 70B; its release says 25 latents x 10 prompts" in shown
    assert re.search(r"^  calibration +50,000 ", shown, re.MULTILINE)


async def test_dry_run_counts_the_parents_trials(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(from_results=str(replayed.path / "results.json"), output=str(tmp_path))
    (stage,) = EXPERIMENT.stages(config, scripted.spec(tmp_path))
    assert stage.responses == 300


@pytest.mark.parametrize("option", ["--n-boosts 1", "--span 0", "--n-calibrated 1"])
def test_options_out_of_range(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["tiny", *option.split()]) == 2
    assert capsys.readouterr().err.startswith(f"error: {option}")
