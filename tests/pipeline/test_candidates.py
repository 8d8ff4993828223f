"""A run of other settings never silently becomes the parent, or the search for detectors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esr import models
from esr.errors import UserError
from esr.pipeline import detector_files, replay
from esr.pipeline.cli import CommonConfig, ReplayConfig
from esr.pipeline.settings import resolve, wanted_run
from esr.runs import folder
from experiment_03_off_topic_detectors.config import AblateConfig
from experiment_07_cross_judge.config import Config as CrossJudge

MODEL = "8b"
TRIAL = {"prompt": "How?", "seed": 1, "response": "So.", "score": None, "error": None}
FEATURE = {"feature_index_in_sae": 3, "threshold": 2.0, "error": None, "trials": [TRIAL]}
RESULTS: dict[str, Any] = {"experiment_config": {}, "results_by_feature": [FEATURE]}


@pytest.fixture(autouse=True)
def _warnings_are_said_again() -> None:
    folder.warn.cache_clear()


def write_run(
    output: Path, name: str, day: int, experiment: str = replay.EXPERIMENT_1, **options: Any
) -> Path:
    """A complete run of one model under these options."""
    if experiment == detector_files.FIND:
        options = {"prompts": "discovery", **options}
    config = CommonConfig(model=MODEL, output=str(output), **options)
    run = wanted_run(config, resolve(config))
    identity = {**config.identity(), **run.identity}
    path = output / experiment / MODEL / name
    path.mkdir(parents=True)
    state = run.updated(
        status="complete", started=f"2026-01-{day:02}", run_id=name, identity=identity
    )
    (path / "run.json").write_text(json.dumps(state.plain()))
    (path / "results.json").write_text(json.dumps(RESULTS))
    (path / detector_files.FILE_NAME).write_text(json.dumps({"off_topic_detectors": [day]}))
    return path


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"pairing": "scheduler-order"}, "--pairing is scheduler-order, here request-id"),
        ({"profile": "release"}, "--profile is release, here paper"),
        ({"prompts": "held-out"}, "--prompts is held-out, here the default"),
        ({"latent_filter": "paper"}, "--latent-filter is paper, here release"),
        ({"judge": "overlap"}, "--judge is overlap, here the default"),
        ({"n_latents": 2}, "--n-latents is 2, here the default"),
        ({"n_trials": 1}, "--n-trials is 1, here the default"),
    ],
)
def test_a_newer_run_of_other_settings_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any], difference: str
) -> None:
    usual = write_run(tmp_path, "usual", 1)
    other = write_run(tmp_path, "other", 2, **options)
    config = ReplayConfig(model=MODEL, output=str(tmp_path))
    assert replay.find(config, resolve(config)).path == usual
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{other} is passed over: its {difference};" in line
    assert f"--from-results {other} names it; {usual} is taken" in line
    named = ReplayConfig(model=MODEL, output=str(tmp_path), from_results=str(other))
    assert replay.find(named, resolve(named)).path == other
    assert capsys.readouterr().err == ""
    same = ReplayConfig(model=MODEL, output=str(tmp_path), **options)
    assert replay.find(same, resolve(same)).path == other


def test_another_build_of_the_model_is_passed_over(tmp_path: Path) -> None:
    path = write_run(tmp_path, "other", 1)
    state = json.loads((path / "run.json").read_text())
    state["identity"]["context"]["model"]["revision"] = "0" * 40
    (path / "run.json").write_text(json.dumps(state))
    config = ReplayConfig(model=MODEL, output=str(tmp_path))
    spec = replace(resolve(config), revision="1" * 40)
    assert replay.find_or_none(config, spec) is None
    with pytest.raises(UserError, match=r"its model\.revision is 0000"):
        replay.find(config, spec)
    # Before the model is on this machine nobody knows which build it will be.
    assert replay.find(config, resolve(config)).path == path


def test_where_no_run_agrees_the_error_names_the_one_there_is(tmp_path: Path) -> None:
    path = write_run(tmp_path, "other", 1, pairing="scheduler-order")
    config = ReplayConfig(model=MODEL, output=str(tmp_path), profile="release")
    with pytest.raises(UserError) as error:
        replay.find(config, resolve(config))
    assert str(path) in str(error.value)
    assert "--pairing is scheduler-order, here request-id" in str(error.value)
    assert "experiment_01_esr 8b --profile release, or --from-results" in str(error.value)


def test_seed_and_engine_do_not_decide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = write_run(tmp_path, "newest", 1, seed=3, engine="transformers")
    config = ReplayConfig(model=MODEL, output=str(tmp_path))
    assert replay.find(config, resolve(config)).path == newest
    assert capsys.readouterr().err == ""


def test_what_a_child_varies_is_not_asked_of_its_parent(tmp_path: Path) -> None:
    usual = write_run(tmp_path, "usual", 1)
    spec = models.get(MODEL)
    new_prompts = AblateConfig(model=MODEL, output=str(tmp_path), prompts="held-out")
    other_rubric = CrossJudge(output=str(tmp_path), model=MODEL, rubric="own-1")
    for config in (new_prompts, other_rubric):
        assert replay.find(config, spec).path == usual
    # The judge of experiment 7 is that of the run which is graded again.
    theirs = write_run(tmp_path, "theirs", 2, judge="overlap")
    named = CrossJudge(output=str(tmp_path), model=MODEL, judge="overlap")
    assert replay.find(named, spec).path == theirs
    assert replay.find(replace(named, judge=""), spec).path == usual


def test_detectors_are_those_of_the_same_model_and_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path, "usual", 3, detector_files.FIND)
    other = write_run(tmp_path, "other", 4, detector_files.FIND, profile="release")
    assert AblateConfig(model=MODEL, output=str(tmp_path)).detector_set.latents == (3,)
    assert f"--detectors {other / detector_files.FILE_NAME} names it" in capsys.readouterr().err
    assert AblateConfig(
        model=MODEL, output=str(tmp_path), profile="release"
    ).detector_set.latents == (4,)
    with pytest.raises(UserError, match="off_topic_detectors find 8b --pairing scheduler-order"):
        _ = AblateConfig(model=MODEL, output=str(tmp_path), pairing="scheduler-order").detector_set


def test_judge_filter_and_size_do_not_matter_to_a_search(tmp_path: Path) -> None:
    write_run(tmp_path, "search", 5, detector_files.FIND, judge="overlap", latent_filter="paper")
    assert AblateConfig(model=MODEL, output=str(tmp_path), n_latents=3).detector_set.latents == (5,)
