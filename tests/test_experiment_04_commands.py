"""Experiment 4: its three commands, what they need, and what they refuse."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from esr import models
from esr.errors import UserError
from esr.models.chat import load as load_chat
from esr.runs.folder import read_run
from experiment_04_finetuning import evaluate as evaluation
from experiment_04_finetuning.config import Config, read, sweep_of, sweeps_of
from experiment_04_finetuning.settings import LoraSettings
from experiment_04_finetuning.stages import main
from tests.finetuning_models import organism_tokenizer, small_llama

PACKAGE = Path(evaluation.__file__).parent


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The commands on a random model under the name tiny-base; gives common arguments."""
    small_llama(len(organism_tokenizer()), tmp_path / "base")
    spec = replace(models.get("tiny-base"), hf_id=str(tmp_path / "base"))
    monkeypatch.setattr("esr.models.get", lambda _: spec)
    options = ["--examples", "20", "--epochs", "1", "--output", str(tmp_path / "results")]
    return lambda stage: [stage, "tiny-base", *options, "--percents", "20", "60"]


def test_generate_and_train_end_in_models_that_differ_in_weights_alone(
    small: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(small("train")) == 2
    assert "generate tiny-base" in capsys.readouterr().err
    assert main(small("generate")) == 0
    assert main(small("evaluate")) == 2
    assert "train tiny-base" in capsys.readouterr().err
    assert main(small("train")) == 0
    config = read("test", small("")[1:])
    made = sweep_of(config, models.get("tiny-base"))
    tuned = made.fine_tuned(20)
    changed = {
        f.name for f in fields(tuned) if getattr(tuned, f.name) != getattr(made.spec, f.name)
    }
    assert changed <= {"key", "title", "hf_id"}
    text = "How do I add two fractions?"
    assert load_chat(tuned).prompt_ids(text) == load_chat(made.spec).prompt_ids(text)
    run = made.training_run(20).path
    metadata = read_run(run).plain()
    assert metadata["status"] == "complete"
    assert metadata["training"]["steps"] == 3
    assert (run / "loss.csv").read_text().startswith("step,epoch,loss,eval_loss")
    assert (run / "adapter" / "adapter_model.safetensors").is_file()
    assert not (run / "checkpoints").exists()
    # Repeating trains nothing.
    before = (run / "model" / "model.safetensors").stat().st_mtime_ns
    assert main(small("train")) == 0
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == before
    # Other hyperparameters are another training.
    other = sweep_of(replace(config, lora=LoraSettings()), made.spec)
    assert other.training_run(20).path != run
    with pytest.raises(UserError, match="no model fine-tuned on 20 %"):
        other.fine_tuned(20)
    shutil.rmtree(tmp_path / "results")


def test_a_training_seed_is_another_training_of_the_same_data(
    small: Callable[..., list[str]],
) -> None:
    assert main([*small("generate"), "--training-seeds", "0", "5"]) == 0
    config = read("test", [*small("")[1:], "--training-seeds", "0", "5"])
    first, second = sweeps_of(config, models.get("tiny-base"))
    assert first.data_run().path == second.data_run().path
    assert first.training_run(20).path != second.training_run(20).path


def test_the_organism_has_defaults_of_its_own_and_the_user_has_the_last_word() -> None:
    assert read("test", ["8b"]) == Config(model="8b")
    own = read("test", ["tiny-base"])
    assert (own.data.writer, own.n_latents) == ("template", None)
    differing = {
        name for name, value in asdict(own.lora).items() if value != asdict(LoraSettings())[name]
    }
    assert "learning_rate" in differing
    assert "lora_rank" not in differing
    given = read("test", ["tiny-base", "--learning-rate", "2e-4", "--n-latents", "280"])
    assert (given.lora.learning_rate, given.n_latents) == (2e-4, 280)
    assert given.data == own.data


def test_dry_run_states_memory_steps_and_hours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["8b", "--dry-run"]) == 2
    told = capsys.readouterr().out
    for part in (
        "1,675 calls",
        "436 steps each, 3,924 in all",
        "83,886,080",
        "GPU memory, estimate",
        "hours, estimate",
        "unsteered",
    ):
        assert part in told, part


def test_dry_run_lists_what_writing_and_training_need(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    here = ["--dry-run", "--output", str(tmp_path)]
    assert main(["generate", "tiny-base", *here]) == 0
    assert "ready        writer" in capsys.readouterr().out
    assert main(["generate", "8b", *here]) == 2
    assert "missing      judge's key    ANTHROPIC_API_KEY" in capsys.readouterr().out
    assert main(["train", "tiny-base", *here]) == 2
    both = capsys.readouterr()
    assert "missing      mixes" in both.out
    assert "ready        memory" in both.out
    assert both.err.count("\n") == 1
    assert "generate tiny-base" in both.err
    assert main(["all", "tiny-base", *here]) == 0, "generate makes the mixes first"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "nonsense"], "unknown model"),
        (["train", "8b", "--lora-rank", "0"], "--lora-rank 0"),
        (["train", "8b", "--percents", "0"], "--percents"),
        (["train", "8b", "--nonsense"], "--nonsense"),
        (["generate", "8b", "--subjects", "missing.json", "--dry-run"], "missing.json"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ([sys.executable, "setup_masked_ratio_sweep.py"], 0, "offline: no key, no cost"),
        (["bash", "train.sh"], 2, "436 steps each"),
        (["bash", "run_esr.sh"], 0, "unsteered"),
    ],
)
def test_the_published_commands_work_in_their_folder(
    command: list[str], status: int, told: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [*command, "--dry-run", "--output", str(tmp_path)],
        cwd=PACKAGE,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert ("missing: mixes" in done.stderr) == bool(status)
    assert told in done.stdout
