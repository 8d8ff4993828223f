"""Experiment 8: the parent's very trials with nothing boosted, compared with the parent."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from esr.analysis import comparison, metrics
from esr.analysis.outcomes import outcomes_from_results
from esr.pipeline.experiment import main
from esr.pipeline.replay import ReplayedRun
from esr.runs.commands import parse
from esr.runs.results import read_results
from experiment_08_no_steering_baseline.config import Config
from experiment_08_no_steering_baseline.run import ARM, EXPERIMENT, show, specs
from tests import replaying, scripted


@pytest.fixture
async def replayed(tmp_path: Path) -> ReplayedRun:
    return await replaying.parent_run(tmp_path / "parent")


async def test_specs_are_the_parents_without_a_boost(tmp_path: Path, replayed: ReplayedRun) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context = replaying.context(run, tmp_path, replayed)
        made = await specs(Config(), context)
        before = list(replayed.specs(context.prompts, context.sampling))
    assert len(made) == len(before) == 30
    for spec, parents in zip(made, before, strict=True):
        assert spec.interventions == ()
        assert spec.threshold == 0
        assert spec.arm == ARM
        # All else, the seed included, is the parent's.
        assert replaying.condition_of(spec, parents) == parents
    assert len({spec.key for spec in made} | {spec.key for spec in before}) == 60


async def test_limits_take_the_first_trials_of_the_parent(
    tmp_path: Path, replayed: ReplayedRun
) -> None:
    with replaying.run_folder(EXPERIMENT.name, tmp_path) as run:
        context = replaying.context(run, tmp_path, replayed)
        made = await specs(Config(n_latents=2, n_trials=3), context)
    assert [s.trial_id for s in made] == [
        trial.trial_id for entry in replayed.results.features[:2] for trial in entry.trials[:3]
    ]


async def test_results_compare_the_same_trials(tmp_path: Path, replayed: ReplayedRun) -> None:
    config = Config(n_latents=4)
    data = read_results(await replaying.child_run(EXPERIMENT, config, tmp_path, replayed)).raw
    outcomes = outcomes_from_results(data)
    assert data["summary"] == metrics.summary(outcomes, 0)
    assert data["summary"]["counts"]["multi"] == 0, "the script restarts under a boost alone"
    steered = replayed.outcomes({o.trial_id for o in outcomes})
    assert len(steered) == len(outcomes) == 20
    assert data["baseline"]["summary"] == metrics.summary(steered, 0)
    assert data["baseline"]["summary"]["counts"]["multi"] > 0
    assert data["baseline"]["first_scores"] == metrics.first_scores(steered)
    assert data["baseline"]["digest"] == replayed.digest
    assert data["comparison"] == comparison.summary(outcomes, steered, 0)
    for entry in data["results_by_feature"]:
        assert entry["threshold"] > 0, "the parent's"
        assert {trial["threshold"] for trial in entry["trials"]} == {0}
    shown = show(data)
    assert "No steering, Scripted, judge scripted" in shown
    assert f"run {replayed.run_id}" in shown
    assert "McNemar" in shown


async def test_resumes(tmp_path: Path, replayed: ReplayedRun) -> None:
    await replaying.resumes(EXPERIMENT, Config(), tmp_path, replayed, stop=11)


async def test_differing_settings_are_named(tmp_path: Path, replayed: ReplayedRun) -> None:
    context = {"model": {"weights": "a"}, "judge": "x", "prompts": "same"}
    parents = replace(replayed, settings=context)
    assert parents.differences(context) == []
    ours = {"model": {"weights": "b"}, "judge": "x", "prompts": "same", "engine": "vllm"}
    assert parents.differences(ours) == ["engine", "model.weights"]
    carried = {**context, "profile": {"repetition_penalty": 1.2, "chat_variant": "template"}}
    assert parents.differences(carried) == ["profile.chat_variant"]
    config = Config(n_latents=1)
    data = read_results(await replaying.child_run(EXPERIMENT, config, tmp_path / "a", parents)).raw
    assert data["baseline"]["differences"] == ["judge", "model", "model.weights", "prompts"]
    assert "The runs also differ in: judge, model, model.weights, prompts." in show(data)
    data = read_results(await replaying.child_run(EXPERIMENT, config, tmp_path / "b", replayed)).raw
    assert data["baseline"]["differences"] is None
    assert "The parent's settings are not recorded" in show(data)


def test_dry_run_of_the_paper_without_a_parent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(EXPERIMENT, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    assert re.search(r"trials, no steering +5,000 ", capsys.readouterr().out)


async def test_dry_run_counts_the_parents_trials(tmp_path: Path, replayed: ReplayedRun) -> None:
    file = replayed.path / "results.json"
    config = parse(Config, "test", ["70b", "--from-results", str(file), "--n-trials", "2"])
    (stage,) = EXPERIMENT.stages(config, scripted.spec(tmp_path))
    assert stage.responses == 12


def test_no_parent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["tiny", "--output", str(tmp_path / "none")]) == 2
    assert "no complete run of experiment_01_esr" in capsys.readouterr().err
