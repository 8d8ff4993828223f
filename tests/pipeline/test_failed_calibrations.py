"""Latents whose calibration failed are in the results, with their reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esr.judge.base import Attempt, JudgeRequest, Status, Verdict
from esr.pipeline.cli import CommonConfig
from esr.pipeline.experiment import Experiment, conduct
from esr.pipeline.schema import Selection
from esr.runs.plain import restore
from experiment_01_esr.config import Config
from experiment_01_esr.run import EXPERIMENT
from experiment_02_multi_boost.config import Config as SweepConfig
from experiment_02_multi_boost.run import EXPERIMENT as SWEEP
from tests import run_schemas, scripted


def mute(label: str) -> bool:
    """Latents about which the judge finds no attempt."""
    return int(label.split()[1]) < 22


class PartlyMute(scripted.ScriptedJudge):
    """Mute about some latents; of the others, every other one is scored as if on topic."""

    async def grade(self, request: JudgeRequest) -> Verdict:
        if mute(request.latent_label):
            return Verdict(Status.NO_ATTEMPTS, raw="?")
        if scripted.number(request.latent_label, 2):
            return Verdict(Status.GRADED, (Attempt(request.response, 90.0),))
        return await super().grade(request)


async def conducted(
    folder: Path, experiment: Experiment[Any], config: CommonConfig
) -> dict[str, Any]:
    with scripted.open_run(folder) as run:
        run.update(config=config.identity(), experiment=experiment.name, organism=False)
        judge = PartlyMute(folder / "calls.log")
        await conduct(experiment, config, scripted.context(run, folder, judge=judge))
    run_schemas.check(run.path)
    data: dict[str, Any] = json.loads((run.path / "results.json").read_text())
    return data


def check(data: dict[str, Any]) -> None:
    entries = {e["feature_label"]: e for e in data["results_by_feature"]}
    failed = {label: e for label, e in entries.items() if e["error"]}
    assert len(entries) == 6
    assert 0 < len(failed) < 6
    assert set(failed) == {label for label in entries if mute(label)}
    for entry in failed.values():
        assert entry["threshold"] is None
        assert entry["trials"] == []
        assert entry["error"] == "calibration: 0 of 4 rounds scored"
        assert entry["calibration"]["skipped"] == 4
    assert all(e["trials"] for label, e in entries.items() if label not in failed)


async def test_in_experiment_1(tmp_path: Path) -> None:
    data = await conducted(tmp_path, EXPERIMENT, Config(model="tiny"))
    check(data)
    failed = [e["feature_index_in_sae"] for e in data["results_by_feature"] if e["error"]]
    counts = data["selection"]
    assert (counts["wanted"], counts["calibrated"], counts["failed"]) == (
        6,
        6 - len(failed),
        len(failed),
    )
    (line,) = [text for text in EXPERIMENT.report(data).splitlines() if "no threshold" in text]
    assert f"{len(failed)} of 6 latents have no threshold and no trials: {failed[0]} (cal" in line


async def test_in_the_sweep_of_experiment_2(tmp_path: Path) -> None:
    data = await conducted(tmp_path, SWEEP, SweepConfig(model="tiny", n_boosts=3))
    check(data)
    assert "have no threshold" in SWEEP.report(data)


async def test_repeated_nothing_is_generated_and_a_complete_journal_does_not_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await conducted(tmp_path, EXPERIMENT, Config(model="tiny"))
    (journal,) = tmp_path.rglob("journal.jsonl")
    before = journal.read_bytes()

    async def generate(*_: object) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(scripted.ScriptedEngine, "generate", generate)
    again = await conducted(tmp_path, EXPERIMENT, Config(model="tiny"))
    assert again["results_by_feature"] == first["results_by_feature"]
    kinds = [json.loads(line)["kind"] for line in journal.read_bytes()[len(before) :].splitlines()]
    assert set(kinds) <= {"verdict", "paid"}, "failed verdicts alone are asked for again"


def test_a_selection_is_read_back_with_its_barred_prompts() -> None:
    """As experiment 4 takes it from the results of the base model."""
    written = {"wanted": 2, "note": "", "calibrated": 2, "failed": 0, "barred": {"7": ["p1"]}}
    selection = restore(Selection, {**written, "labels": {7: "lava"}})
    assert selection.barred == {7: ["p1"]}
