"""LoRA training: it learns, it merges exactly, and a kill changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from benchmarks import finetuning_step
from esr import models
from esr.models import prompts
from esr.models.chat import ChatFormat
from experiment_04_finetuning.clock import StepClock
from experiment_04_finetuning.dry_run import lora_parameters
from experiment_04_finetuning.examples import items
from experiment_04_finetuning.masking import IGNORED, Encoded, encode
from experiment_04_finetuning.merging import merge
from experiment_04_finetuning.mixes import mix
from experiment_04_finetuning.settings import ORGANISM_DATA, LoraSettings
from experiment_04_finetuning.templates import TemplateWriter
from experiment_04_finetuning.training import collate, last_checkpoint, on_one_device, train
from tests.finetuning_models import organism_tokenizer, small_llama, write_now

QUICK = LoraSettings(
    lora_rank=32,
    lora_alpha=32,
    learning_rate=1e-2,
    warmup_steps=2,
    batch=5,
    accumulation=1,
    threads=1,
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return organism_tokenizer()


def encoded(tokenizer: Any, count: int) -> list[Encoded]:
    """Self-corrections and normal responses, half each."""
    writer = TemplateWriter(0)
    settings = replace(ORGANISM_DATA, examples=count)
    wanted = items(prompts.load("organism").prompts, writer.subjects, settings, 0)
    made = mix(write_now(writer, wanted), 50, replace(settings, validation=0.0), 0)
    return [encode(example, ChatFormat(tokenizer), 256) for example in made.train]


def test_batches_are_padded_where_nothing_is_trained() -> None:
    batch = collate(
        [
            {"input_ids": [7, 8, 9], "labels": [IGNORED, 8, 9]},
            {"input_ids": [4], "labels": [4]},
        ]
    )
    assert batch["input_ids"].tolist() == [[7, 8, 9], [4, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 8, 9], [4, IGNORED, IGNORED]]


def test_ten_examples_are_learned_by_heart_and_the_merge_is_the_adapter(
    tokenizer: Any, tmp_path: Path
) -> None:
    texts = encoded(tokenizer, 10)
    # Random weights, so that all there is to know comes from the ten examples.
    model = small_llama(len(tokenizer))
    frozen = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    adapted, figures = train(
        model,
        texts,
        [],
        replace(QUICK, batch=10, epochs=60, lora_dropout=0.0, checkpoint_every=999),
        0,
        tmp_path / "run",
        quiet=True,
    )
    assert torch.equal(state, torch.get_rng_state())
    assert figures["steps"] == 60
    assert figures["first_loss"] > 4
    # Only the update was trained.
    for name, value in adapted.get_base_model().state_dict().items():
        if "lora" not in name:
            assert torch.equal(value, frozen[name.replace(".base_layer", "")]), name
    batch = collate([{"input_ids": e.ids, "labels": e.labels} for e in texts])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        assert adapted(**batch).loss < 0.1
        before = adapted(**inputs).logits
    folder = merge(adapted, tokenizer, tmp_path / "model")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        after = merged(**inputs).logits
    attended = batch["attention_mask"].bool()
    torch.testing.assert_close(after[attended], before[attended], atol=1e-4, rtol=1e-4)
    plain = small_llama(len(tokenizer)).eval()
    with torch.no_grad():
        base = plain(**inputs).logits
    assert (base - before)[attended].abs().max() > 1
    again = AutoTokenizer.from_pretrained(folder)
    assert again.chat_template == tokenizer.chat_template
    assert again("how do i add ?")["input_ids"] == tokenizer("how do i add ?")["input_ids"]


RESUMABLE = replace(QUICK, epochs=2, checkpoint_every=3, lora_dropout=0.1)


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Train as the killed process does, and give the adapter."""
    tokenizer = organism_tokenizer()
    texts = encoded(tokenizer, 40)
    adapted, _ = train(
        small_llama(len(tokenizer)), texts[4:], texts[:4], RESUMABLE, 7, folder, quiet=True
    )
    return {k: v for k, v in adapted.state_dict().items() if "lora" in k}


def validations(folder: Path) -> list[tuple[int, float]]:
    """(step, loss) of every validation that was logged."""
    points = json.loads((folder / "loss.json").read_text())
    return [(p["step"], round(p["eval_loss"], 5)) for p in points if "eval_loss" in p]


def test_a_training_killed_at_any_time_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole = final_weights(tmp_path / "whole")
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.test_finetuning_training", str(killed)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint-6" / "trainer_state.json").is_file():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    # The newest checkpoint may be torn by the kill; here is one that surely is.
    torn = killed / "checkpoint-999"
    torn.mkdir()
    (torn / "adapter_model.safetensors").write_bytes(b"half")
    found = last_checkpoint(killed)
    assert found is not None
    assert int(found.name.rpartition("-")[2]) >= 3
    assert not torn.exists()
    resumed = final_weights(killed)
    assert resumed.keys() == whole.keys()
    for name, value in whole.items():
        # Products of matrices round by how their memory is aligned, which differs between two
        # processes: single weights were up to 2e-5 apart. Another number of steps: 7e-2.
        torch.testing.assert_close(resumed[name], value, atol=1e-3, rtol=1e-4)
    assert len(validations(killed)) > 4
    assert validations(killed) == validations(tmp_path / "whole")


def test_a_step_has_as_many_examples_on_eight_gpus_as_on_one(tmp_path: Path) -> None:
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=2, use_cpu=True, report_to=[]
    )
    assert arguments.n_gpu == 0
    arguments._n_gpu = 8
    assert arguments.train_batch_size == 16
    assert on_one_device(arguments).train_batch_size == 2


def test_the_benchmark_times_steps_and_leaves_the_first_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = models.get("8b")
    assert real.shape is not None
    shape = replace(real.shape, layers=2, heads=2, kv_heads=1, head_dim=16, ffn=64, vocabulary=99)
    monkeypatch.setattr("esr.models.get", lambda _: replace(real, d_model=32, shape=shape))
    clocks: list[StepClock] = []
    begin = StepClock.__init__

    def remembered(self: StepClock) -> None:
        begin(self)
        clocks.append(self)

    monkeypatch.setattr(StepClock, "__init__", remembered)
    assert finetuning_step.main(["8b", "--tokens", "20", "--steps", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    (clock,) = clocks
    assert len(clock.seconds) == 4
    # Rounded twice on its way: to a tenth of a millisecond, then to a millisecond.
    assert found["seconds_per_step"] == pytest.approx(sorted(clock.seconds[1:])[1], abs=6e-4)
    assert found["trainable_parameters"] == lora_parameters(models.get(""), shape, 32)
    assert found["examples_per_step"] == 8


def test_the_seed_decides_the_result(tokenizer: Any, tmp_path: Path) -> None:
    texts = encoded(tokenizer, 10)
    settings = replace(QUICK, epochs=1)
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        model, _ = train(
            small_llama(len(tokenizer)),
            texts,
            [],
            settings,
            seed,
            tmp_path / str(number),
            quiet=True,
        )
        weights.append(
            torch.cat([v.flatten() for k, v in model.state_dict().items() if "lora" in k])
        )
    assert torch.equal(weights[0], weights[1])
    assert not torch.allclose(weights[0], weights[2])


def test_gradient_checkpointing_changes_nothing(tokenizer: Any, tmp_path: Path) -> None:
    texts = encoded(tokenizer, 10)
    weights = []
    for saving in (False, True):
        settings = replace(QUICK, epochs=2, gradient_checkpointing=saving)
        folder = tmp_path / str(saving)
        model, _ = train(small_llama(len(tokenizer)), texts, [], settings, 0, folder, quiet=True)
        weights.append(
            torch.cat([v.flatten() for k, v in model.state_dict().items() if "lora" in k])
        )
    torch.testing.assert_close(weights[0], weights[1])


if __name__ == "__main__":
    # Slow steps, so that the parent can kill in the middle.
    from transformers import Trainer

    step = Trainer.training_step

    def slow(self: Any, *args: Any, **options: Any) -> Any:
        time.sleep(0.05)
        return step(self, *args, **options)

    Trainer.training_step = slow
    final_weights(Path(sys.argv[1]))
