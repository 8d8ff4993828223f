"""What a command needs is listed by --dry-run, and asked for before an engine starts."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from esr import models
from esr.errors import UserError
from esr.models import ModelSpec
from esr.pipeline import engines, preflight
from esr.pipeline.cli import CommonConfig
from esr.pipeline.experiment import main
from esr.pipeline.preflight import Need
from esr.pipeline.stages import Stage, choosing_stage
from esr.runs import provenance
from experiment_01_esr.run import EXPERIMENT
from experiment_02_multi_boost.run import EXPERIMENT as SWEEP
from experiment_05_prompt_variants.run import EXPERIMENT as VARIANTS

TRIALS = Stage("trials", 100, 512)


@pytest.fixture(autouse=True)
def _bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no GPU, nothing downloaded, and no engine to be started."""
    monkeypatch.setenv("ESR_ENV_FILE", str(tmp_path / "no.env"))
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(provenance, "gpus", list)

    async def start(*_: object) -> None:
        raise AssertionError("an engine was started")

    monkeypatch.setattr(engines, "start_engine", start)


@pytest.fixture
def model(tmp_path: Path) -> ModelSpec:
    """The 8B model with labels here."""
    labels = tmp_path / "labels.csv"
    labels.write_text("index,description\n3,lava\n5,bridges\n")
    return replace(models.get("8b"), labels=labels)


def listed(config: CommonConfig, spec: ModelSpec, *stages: Stage) -> dict[str, Need]:
    return {need.what: need for need in preflight.needs(config, spec, stages)}


def config(tmp_path: Path) -> CommonConfig:
    return CommonConfig(model="8b", output=str(tmp_path / "results"))


def test_each_need_is_ready_or_missing(
    tmp_path: Path, model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = config(tmp_path)
    needed = listed(options, model, choosing_stage(options, model), TRIALS)
    assert needed["judge's key"].state == "missing"
    assert "ANTHROPIC_API_KEY" in needed["judge's key"].detail
    assert needed["labels"] == Need("labels", "ready", f"2 in {model.label_file}")
    assert needed["weights"].state == needed["SAE"].state == "not checked"
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-x")
    gone = replace(model, labels=tmp_path / "none.csv")
    needed = listed(options, gone, choosing_stage(options, model), TRIALS)
    assert needed["judge's key"].state == "ready"
    assert needed["labels"].state == "missing"
    assert "python -m esr.upstream labels 8b" in needed["labels"].detail


def test_what_no_stage_asks_for_is_not_needed(tmp_path: Path, model: ModelSpec) -> None:
    unjudged = Stage("reads", 0, 0, judged=False, reads=3)
    assert {"judge's key", "labels"}.isdisjoint(listed(config(tmp_path), model, unjudged))
    assert set(listed(config(tmp_path), model)) == {"disk, results"}
    asked = Stage("boundaries", 0, 0, asked=2)
    assert "judge's key" in listed(config(tmp_path), model, asked)


def test_memory_is_that_of_the_gpus_there_are(
    tmp_path: Path, model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def memory(*gpus: str) -> Need:
        monkeypatch.setattr(provenance, "gpus", lambda: list(gpus))
        return listed(config(tmp_path), model, TRIALS)["memory"]

    large, small = "NVIDIA H100 80GB HBM3, 81559 MiB", "NVIDIA T4, 15360 MiB"
    assert memory(large).state == "ready"
    assert "1 x NVIDIA H100" in memory(large).detail
    assert memory(small).state == "missing"
    monkeypatch.setattr(provenance, "gpus", list)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert listed(config(tmp_path), model, TRIALS)["memory"].state == "not checked"


def test_weights_in_the_cache_are_ready_once_they_are_whole(
    tmp_path: Path, model: ModelSpec
) -> None:
    commit = "a" * 40
    place = tmp_path / "hub" / "models--meta-llama--Llama-3.1-8B-Instruct"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    index = {"weight_map": {"x": "1.safetensors", "y": "2.safetensors"}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    (snapshot / "1.safetensors").touch()
    assert model.hf_id == "meta-llama/Llama-3.1-8B-Instruct"
    found = listed(config(tmp_path), model, TRIALS)
    assert found["weights"].state == "not checked"
    assert "1 files" in found["weights"].detail
    assert "disk, weights" not in found
    (snapshot / "2.safetensors").touch()
    assert listed(config(tmp_path), model, TRIALS)["weights"].state == "ready"


def test_room_on_the_disk(
    tmp_path: Path, model: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10 * 2**30))
    needed = listed(config(tmp_path), model, TRIALS)
    assert needed["disk, results"].state == "ready"
    assert needed["disk, weights"].state == "missing"
    assert "10.0 GiB are free" in needed["disk, weights"].detail


def test_a_dry_run_ends_with_the_list_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(VARIANTS, ["70b", "--dry-run", "--output", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    after = shown.out.split("needed:\n")[1].splitlines()
    states = {line[4:16].strip() for line in after}
    assert states == {"ready", "missing", "not checked"}
    assert "error: missing: parent run, judge's key, memory" in shown.err
    assert main(EXPERIMENT, ["tiny", "--dry-run", "--output", str(tmp_path)]) == 0


def test_the_sweep_says_that_experiment_1_makes_it_cheap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(SWEEP, ["70b", "--dry-run", "--output", str(tmp_path)])
    out = capsys.readouterr().out
    assert "python -m experiment_01_esr 70b first makes this cheap" in out
    assert "parent run     but makes this cheap: python -m experiment_01_esr 70b" in out


def test_the_prompt_is_shown_in_its_whole_template(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(EXPERIMENT, ["tiny", "--dry-run", "--output", str(tmp_path)])
    assert "<bos> <user> how do i add two fractions ? <end> <assistant>" in capsys.readouterr().out


def test_nothing_starts_where_something_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tiny", "--judge", "haiku", "--output", str(tmp_path)]
    assert main(EXPERIMENT, arguments) == 2
    assert "error: missing: judge's key: ANTHROPIC_API_KEY, for haiku" in capsys.readouterr().err
    assert not (tmp_path / "experiment_01_esr").exists()
    assert main(VARIANTS, arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("ready        weights") for line in lines)
    assert lines[-1].startswith("error: missing: parent run, judge's key")


def test_a_complete_run_needs_nothing(tmp_path: Path) -> None:
    options = CommonConfig(model="tiny", judge="haiku", output=str(tmp_path))
    spec = models.get("tiny")
    with pytest.raises(UserError, match="ANTHROPIC_API_KEY"):
        preflight.before("experiment_01_esr", [options], spec, [TRIALS])
    place = preflight.located("experiment_01_esr", options, spec)
    with place.folder:
        pass
    preflight.before("experiment_01_esr", [options], spec, [TRIALS])
