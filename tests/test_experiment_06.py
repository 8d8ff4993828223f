"""Experiment 6: the clearest episode, fed with its boost on, token by token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esr.analysis.episodes import by_clarity, from_results
from esr.errors import UserError
from esr.pipeline.experiment import conduct, main
from esr.pipeline.replay import ReplayedRun
from esr.steering.interventions import Boost
from experiment_06_sequential_activations.config import Config
from experiment_06_sequential_activations.run import EXPERIMENT, show
from tests import replaying
from tests.test_experiment_09 import RegionEngine


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


def config(folder: Path, **options: Any) -> Config:
    path = folder / "detectors.json"
    path.write_text(json.dumps({"off_topic_detectors": [17, 33]}))
    return Config(detectors=str(path), boundaries="offline", **options)


async def episode(folder: Path, replayed: ReplayedRun, settings: Config) -> Any:
    engine = RegionEngine(folder / "calls.log")
    engine.requests = []

    async def start() -> RegionEngine:
        return engine

    with replaying.run_folder(EXPERIMENT.name, folder) as run:
        run.update(organism=False, title="Scripted", config=settings.identity())
        context = replaying.context(run, folder, replayed)
        context.start_engine = start
        await conduct(EXPERIMENT, settings, context)
    return json.loads((run.path / "results.json").read_text()), engine.requests


async def test_the_clearest_episode_is_read_with_its_boost(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    data, read = await episode(tmp_path, replayed, config(tmp_path, latents=(3,)))
    clearest = by_clarity(from_results(replayed.results))[0]
    assert data["episode"]["trial_id"] == clearest.trial_id
    (request,) = read
    assert request.interventions == (Boost(clearest.latent, clearest.threshold),)
    assert request.first_token == len(clearest.prompt)
    text = clearest.response
    assert "".join(data["tokens"]) == text
    parts = data["regions"]
    assert parts["correction"] == text.index("Wait")
    assert parts["on_topic"] == text.index("done")
    assert parts["end"] == len(text)
    series = data["series"]
    assert set(series) == {"boosted", "detectors", "latent 3"}
    assert {len(values) for values in series.values()} == {len(text)}
    expected = [2.0 * (c in "off") + 0.5 for c in text]
    assert series["detectors"] == pytest.approx(expected), "the sum over the set"
    assert data["region_means"]["latent 3"]["correction"] > 0.9
    assert "mean activation" in show(data)
    again, none = await episode(tmp_path, replayed, config(tmp_path, latents=(3,)))
    assert again == data
    assert none == []


async def test_by_default_the_strongest_detector_stands_alone(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    data, _ = await episode(tmp_path, replayed, config(tmp_path))
    assert set(data["series"]) >= {"boosted", "detectors"}
    (single,) = set(data["series"]) - {"boosted", "detectors"}
    assert single in ("latent 17", "latent 33")


async def test_a_named_episode(tmp_path: Path, replayed: ReplayedRun) -> None:
    other = by_clarity(from_results(replayed.results))[1]
    data, _ = await episode(tmp_path, replayed, config(tmp_path, episode=other.trial_id))
    assert data["episode"]["trial_id"] == other.trial_id
    with pytest.raises(
        UserError, match=r"unknown two-attempt trial 'nowhere'; allowed: .*leave --episode out"
    ):
        await episode(tmp_path / "x", replayed, config(tmp_path, episode="nowhere"))


async def test_a_boosted_detector_is_not_in_the_sum(tmp_path: Path, replayed: ReplayedRun) -> None:
    clearest = by_clarity(from_results(replayed.results))[0]
    settings = config(tmp_path)
    path = Path(settings.detectors)
    path.write_text(json.dumps({"off_topic_detectors": [clearest.latent, 33]}))
    data, _ = await episode(tmp_path, replayed, settings)
    assert data["series"]["detectors"] == pytest.approx([0.5] * len(data["tokens"]))


def test_dry_run_and_refusals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(EXPERIMENT, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    assert main(EXPERIMENT, ["tiny", "--output", str(tmp_path)]) == 2
    assert "missing: parent run, detectors" in capsys.readouterr().err.splitlines()[-1]
