"""Experiment 4: both arms of models that differ in their weights alone, and their figure."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import matplotlib.pyplot as plt
import numpy as np
import pytest

from esr import models
from esr.analysis import metrics
from esr.engine.base import Engine, Generation, GenerationRequest
from esr.errors import UserError
from esr.models import ModelSpec, SaeSource
from esr.runs.results import read_results
from esr.runs.run_metadata import RunMetadata
from esr.steering.interventions import Boost
from experiment_04_finetuning.config import Config, read, sweep_of
from experiment_04_finetuning.evaluate import NAME, evaluate, show, sweep_table
from plotting import finetuning_sweeps, plot_exp4
from plotting.rates import Summary
from plotting.selection import find_sources
from plotting.sources import Source
from tests import made_up_outcomes, scripted
from tests.plotting.printed import check


@dataclass
class Run:
    """What is known of a training."""

    metadata: RunMetadata


class TrainedSweep:
    """Stands for a sweep whose models are trained: the scripted engine needs no weights."""

    prompts = scripted.PROMPTS

    def __init__(self, spec: ModelSpec, training_seed: int = 0) -> None:
        self.spec = spec
        self.training_seed = training_seed

    def fine_tuned(self, percent: int) -> ModelSpec:
        name = f"{percent}-{self.training_seed}"
        return replace(self.spec, key=f"scripted+ft-{name}", hf_id=f"folder-{name}")

    def training_run(self, percent: int) -> Run:
        name = f"training-{percent}-{self.training_seed}"
        return Run(RunMetadata(schema_version=1, run_id=name))


class Restarting(scripted.ScriptedEngine):
    """Restarts a third of its responses, boosted or not; drifts at half the boost."""

    async def generate(self, request: GenerationRequest) -> Generation:
        made = await super().generate(request)
        boosts = sum(i.value for i in request.interventions if isinstance(i, Boost))
        drift = "off " * min(10, round(boosts / 2))
        third = scripted.number(request.request_id, 3) == 0
        text = f"{drift}answer{scripted.RESTART if third else ' '}done"
        return replace(made, text=text, token_ids=tuple(ord(c) for c in text))


async def scripted_sweep(
    folder: Path, monkeypatch: pytest.MonkeyPatch, training_seeds: tuple[int, ...] = (0,)
) -> list[dict[str, Any]]:
    """The whole evaluation on the scripted engine: the base model and two fine-tuned ones."""
    folder.mkdir(parents=True, exist_ok=True)

    async def start(_: Any, spec: ModelSpec, *_layers: Any) -> Engine:
        kind = Restarting if "+" in spec.key else scripted.ScriptedEngine
        return kind(folder / "calls.log")

    monkeypatch.setattr("esr.pipeline.engines.start_engine", start)
    monkeypatch.setattr("esr.models.chat.load", lambda *_: scripted.ScriptedChat())
    monkeypatch.setattr("esr.models.prompts.load", lambda *_: scripted.PROMPTS)
    monkeypatch.setattr(
        "esr.judge.create", lambda *_, **__: scripted.ScriptedJudge(folder / "calls.log")
    )
    monkeypatch.setattr("esr.judge.concreteness.rate", lambda _, labels: scripted.rate(labels))
    # A dictionary of its own: the scripted one lies beside the results, and is named by content.
    spec = replace(scripted.spec(folder), sae=SaeSource(folder=folder / "dictionary"))
    config = Config(model="scripted", n_latents=None, output=str(folder / "results"))
    config = replace(config, data=replace(config.data, percents=(10, 50)))
    sweeps: list[Any] = [TrainedSweep(spec, seed) for seed in training_seeds]
    return await evaluate(config, sweeps)


@pytest.fixture
async def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    return await scripted_sweep(tmp_path, monkeypatch)


def trials(entry: dict[str, Any], arm: str) -> dict[str, dict[str, Any]]:
    """Trials of one arm by id."""
    listed = [t for feature in entry["results_by_feature"] for t in feature["trials"]]
    return {t["trial_id"]: t for t in listed if t["arm"] == arm}


async def test_every_model_gets_the_same_latents_prompts_and_seeds(
    found: list[dict[str, Any]],
) -> None:
    percents = [entry["experiment_config"]["self_correction_percent"] for entry in found]
    assert percents == [0, 10, 50]
    base = trials(found[0], "steered")
    assert len(base) == 30
    for entry in found:
        assert entry["experiment_config"]["base_model"] == "scripted"
        for arm in ("steered", "unsteered"):
            ours = trials(entry, arm)
            assert ours.keys() == base.keys()
            for name, trial in ours.items():
                same = ("prompt", "seed", "feature_index_in_sae", "feature_label")
                assert [trial[k] for k in same] == [base[name][k] for k in same]


async def test_the_unsteered_arm_has_no_boost_and_the_steered_one_its_own_threshold(
    found: list[dict[str, Any]],
) -> None:
    thresholds = []
    for entry in found:
        own = {f["feature_index_in_sae"]: f["threshold"] for f in entry["results_by_feature"]}
        thresholds.append(own)
        for trial in trials(entry, "steered").values():
            (boost,) = trial["spec"]["interventions"]
            assert boost["value"] == trial["threshold"] == own[trial["feature_index_in_sae"]]
        for trial in trials(entry, "unsteered").values():
            assert (trial["spec"]["interventions"], trial["threshold"]) == ([], 0.0)
            assert (
                trial["spec"]["sampling"]
                == trials(entry, "steered")[trial["trial_id"]]["spec"]["sampling"]
            )
    # The scripted fine-tuned model drifts at twice the boost.
    assert all(thresholds[1][k] > thresholds[0][k] for k in thresholds[0])


async def test_restarts_without_steering_are_counted_apart(found: list[dict[str, Any]]) -> None:
    base, tuned = found[0], found[1]
    assert base["unsteered"]["multi_attempt_rate"]["count"] == 0
    assert tuned["unsteered"]["multi_attempt_rate"]["count"] > 0
    against = tuned["against_base"]["unsteered"]["multi_attempt_rate"]
    assert against["second"] == 0
    assert against["first"] == tuned["unsteered"]["multi_attempt_rate"]["rate"]
    assert tuned["against_base"]["run_id"] == base["experiment_config"]["run_id"]
    assert "against_base" not in base


async def test_models_of_a_sweep_differ_in_their_weights_alone(
    found: list[dict[str, Any]],
) -> None:
    for entry in found[1:]:
        assert entry["against_base"]["differences"] == ["model.hf_id", "model.key"]


async def test_repeating_the_evaluation_generates_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await scripted_sweep(tmp_path, monkeypatch)
    log = tmp_path / "calls.log"
    generated = log.read_text().count("generation ")
    assert await scripted_sweep(tmp_path, monkeypatch) == first
    assert log.read_text().count("generation ") == generated, "failed verdicts are asked for again"
    assert len(list((tmp_path / "results" / NAME).glob("*/*"))) == 3


async def test_tables_name_every_model_and_arm(found: list[dict[str, Any]]) -> None:
    lines = sweep_table(found).splitlines()
    named = [line.split() for line in lines[1:]]
    assert [words[:2] for words in named[:2]] == [["0", "steered"], ["0", "unsteered"]]
    assert [words[:3] for words in named[2:]] == [
        [percent, "0", arm] for percent in ("10", "50") for arm in ("steered", "unsteered")
    ]
    assert "unsteered" in show(found[1])


async def test_the_figure_shows_what_the_runs_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = await scripted_sweep(tmp_path, monkeypatch)
    sources = find_sources(NAME, [tmp_path / "results"])
    (sweep,) = finetuning_sweeps.sweeps(sources)
    assert [point.percent for point in sweep.points] == [0, 10, 50]
    table = plot_exp4.table([sweep])
    for entry in found:
        percent = entry["experiment_config"]["self_correction_percent"]
        for arm, key in (("steered", "summary"), ("unsteered", "unsteered")):
            for quantity in ("multi_attempt_rate", "esr_rate"):
                (row,) = table[
                    (table.percent == percent) & (table.arm == arm) & (table.quantity == quantity)
                ].to_dict("records")
                assert row["value"] == entry[key][quantity]["rate"]
                assert row["n"] == entry[key][quantity]["n"]
    (drawn,) = plot_exp4.figures(sources)
    check(drawn)
    assert plot_exp4.main(["--results", str(tmp_path / "results"), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "exp4_finetuning.csv").is_file()
    assert not (tmp_path / "exp4_prompting_and_finetuning.png").exists(), "nothing was prompted"


async def test_trainings_of_one_mix_are_points_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = await scripted_sweep(tmp_path, monkeypatch, training_seeds=(0, 3))
    configs = [entry["experiment_config"] for entry in evaluated]
    assert [(c["self_correction_percent"], c["training_seed"]) for c in configs] == [
        *[(0, 0), (10, 0), (50, 0), (10, 3), (50, 3)]
    ]
    (sweep,) = finetuning_sweeps.sweeps(find_sources(NAME, [tmp_path / "results"]))
    assert [(p.percent, p.training_seed, p.turn) for p in sweep.points] == [
        *[(0, 0, 0), (10, 0, 0), (10, 3, 1), (50, 0, 0), (50, 3, 1)]
    ]
    table = plot_exp4.table([sweep])
    esr = table[(table.percent == 50) & (table.arm == "steered") & (table.quantity == "esr_rate")]
    assert sorted(esr.training_seed) == [0, 3]
    check(plot_exp4.figures(find_sources(NAME, [tmp_path / "results"]))[0])


def summary(multi: int) -> Summary:
    """Of a hundred trials, of which so many restart and improve."""
    outcomes = [
        made_up_outcomes.graded(k % 10, 10, *([60] if k < multi else []), name=str(k))
        for k in range(100)
    ]
    return metrics.summary(outcomes, 0)


@pytest.mark.parametrize(("restarts", "far"), [(60, True), (6, False)])
def test_a_model_far_above_all_does_not_press_the_others_flat(restarts: int, far: bool) -> None:
    """A hundred trials a model; one of them restarts in so many of its unsteered answers."""

    source = cast("Source", SimpleNamespace(title="tiny-base", settings={}))
    points = [
        finetuning_sweeps.Point(percent, source, {"steered": summary(2), "unsteered": summary(n)})
        for percent, n in ((0, 0), (10, 2), (50, restarts), (90, 3))
    ]
    sweep = finetuning_sweeps.Sweep("tiny-base", points, [])
    figure, axes = plt.subplots()
    limit = plot_exp4._limit(sweep, {})
    plot_exp4._trend(axes, sweep, "multi_attempt_rate", limit, legend=False)
    assert limit < 0.2
    triangles = [line for line in axes.lines if line.get_marker() == "^"]
    heights = [float(value) for line in triangles for value in np.asarray(line.get_ydata())]
    assert heights == ([100 * limit] if far else [])
    assert ("60 %" in [text.get_text() for text in axes.texts]) is far
    assert any("Triangles" in note for note in plot_exp4._notes([sweep])) is far
    plt.close(figure)


def test_a_meta_prompt_far_above_all_is_drawn_beside() -> None:
    """At the end of the axis that prompting and fine-tuning share, and the caption says so."""

    source = cast("Source", SimpleNamespace(title="tiny-base", settings={}))
    arms = {"steered": summary(2), "unsteered": summary(0)}
    points = [finetuning_sweeps.Point(percent, source, arms) for percent in (0, 50)]
    sweep = finetuning_sweeps.Sweep("tiny-base", points, [])
    prompted = {"none": summary(2), "self_monitor": summary(70)}
    figure, axes = plt.subplots()
    limit = plot_exp4._limit(sweep, prompted)
    plot_exp4._prompted(axes, "tiny-base", prompted, "multi_attempt_rate", limit)
    assert limit < 0.2
    assert "70 %" in [text.get_text() for text in axes.texts]
    assert any("Triangles" in note for note in plot_exp4._notes([sweep], {"tiny-base": prompted}))
    assert not any("Triangles" in note for note in plot_exp4._notes([sweep]))
    plt.close(figure)


def test_held_out_questions_are_asked_of_models_trained_on_the_set_they_were_held_out_of() -> None:
    usual = read("test", ["tiny-base"])
    held_out = replace(usual, prompts="held-out")
    spec = models.get("tiny-base")
    assert sweep_of(held_out, spec).prompts == sweep_of(usual, spec).prompts
    other = sweep_of(replace(usual, train_prompts="how-to"), spec)
    assert other.prompts != sweep_of(usual, spec).prompts
    with pytest.raises(UserError, match="--train-prompts how-to"):
        other.mix_file(10)


def test_the_figure_without_data_is_an_empty_panel(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    output = ["--output", str(tmp_path / "figures")]
    assert plot_exp4.main(["--results", str(tmp_path / "none"), *output]) == 1
    assert (tmp_path / "figures" / "exp4_finetuning.png").is_file()


def test_the_papers_points_stand_beside_its_own_model_only() -> None:
    assert len(plot_exp4.paper_points("8b", "esr_rate")) == 9
    assert plot_exp4.paper_points("tiny-base", "esr_rate") == []


def test_results_follow_the_authors_schema(found: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(found[1]))
    assert read_results(path).raw["results_by_feature"]
