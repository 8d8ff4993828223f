"""LoRA with peft and the transformers Trainer: same seeds, same data order, same weights.

A training that is killed goes on from its last whole checkpoint and ends where an uninterrupted
one would have.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from esr.errors import UserError
from experiment_04_finetuning.masking import IGNORED, Encoded
from experiment_04_finetuning.settings import LoraSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, Trainer, TrainingArguments

    from experiment_04_finetuning.clock import StepClock

LOGGED_EVERY = 10
"""Steps between two points of the loss curve."""

VALIDATIONS_PER_EPOCH = 4

Row = dict[str, list[int]]
Batch = dict[str, Tensor]


def adapted(model: PreTrainedModel, settings: LoraSettings, seed: int) -> PeftModel:
    """The model with a fresh LoRA update on every linear layer but the output head.

    Adapter weights are float32 whatever the model's dtype is.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
    )
    with isolated(seed):
        return get_peft_model(model, config)


def arithmetic() -> dict[str, str]:
    """What decides the last bits of a training on this machine, for ``run.json``."""
    return {"cpu_capability": torch.backends.cpu.get_cpu_capability(), "torch": torch.__version__}


@contextmanager
def isolated(seed: int) -> Iterator[None]:
    """Global random state set from ``seed``, and put back afterwards.

    The Trainer draws from Python's, NumPy's and torch's global generators; nothing outside sees
    that.
    """
    states = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count()))
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


def collate(rows: Sequence[Row]) -> Batch:
    """Padded on the right: ``input_ids``, ``attention_mask``, ``labels``, all [n_rows, n_tokens].

    Padded positions are neither attended to nor trained, so the padding token does not matter.
    """
    width = max(len(row["input_ids"]) for row in rows)
    batch = {
        "input_ids": torch.zeros(len(rows), width, dtype=torch.int64),
        "attention_mask": torch.zeros(len(rows), width, dtype=torch.int64),
        "labels": torch.full((len(rows), width), IGNORED, dtype=torch.int64),
    }
    for number, row in enumerate(rows):
        length = len(row["input_ids"])
        batch["input_ids"][number, :length] = torch.tensor(row["input_ids"])
        batch["labels"][number, :length] = torch.tensor(row["labels"])
        batch["attention_mask"][number, :length] = 1
    return batch


def rows(encoded: Sequence[Encoded]) -> list[Row]:
    """What the Trainer iterates over; examples whose trained part was cut off are left out."""
    return [{"input_ids": e.ids, "labels": e.labels} for e in encoded if e.n_trained]


def train(
    model: PreTrainedModel,
    training: Sequence[Encoded],
    validation: Sequence[Encoded],
    settings: LoraSettings,
    seed: int,
    folder: Path,
    *,
    max_steps: int = 0,
    quiet: bool = False,
) -> tuple[PeftModel, dict[str, Any]]:
    """Fine-tune a model, from the last checkpoint in ``folder`` where there is one.

    Args:
        model: the base model; changed in place.
        training: examples to train on.
        validation: examples to validate on; may be empty.
        settings: hyperparameters.
        seed: decides initial adapter, data order and dropout.
        folder: for checkpoints and the loss curve, ``loss.json``.
        max_steps: stop there; 0 for all epochs.
        quiet: no progress bar.

    Returns:
        The trained model with its adapter, and figures of the training; times are of this process
        alone, also where it went on from a checkpoint.

    Raises:
        UserError: nothing to train on, or the device's memory is too small.
    """
    if not rows(training):
        raise UserError("no example has a trained token", "at least one", "raise --max-length")
    from experiment_04_finetuning.clock import StepClock

    folder.mkdir(parents=True, exist_ok=True)
    clock = StepClock()
    with isolated(seed), _threads(settings.threads):
        peft_model = adapted(model, settings, seed)
        checkpoint = last_checkpoint(folder)
        held_out = rows(validation)
        arguments = _arguments(
            settings, seed, folder, bool(held_out), checkpoint is not None, max_steps
        )
        trainer = _trainer(peft_model, arguments, rows(training), held_out, clock, quiet)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        started, worked = time.monotonic(), time.process_time()
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except torch.OutOfMemoryError as error:
            raise UserError(
                f"the device's memory is too small: {str(error).splitlines()[0]}",
                "a GPU as large as --dry-run states",
                "--gradient-checkpointing, or --batch 1 --accumulation 8",
            ) from error
    history = trainer.state.log_history
    (folder / "loss.json").write_text(json.dumps(history, indent=1) + "\n", encoding="utf-8")
    peft_model.eval()
    figures = _figures(trainer, peft_model, training)
    figures["seconds"] = round(time.monotonic() - started, 1)
    figures["cpu_seconds"] = round(time.process_time() - worked, 1)
    figures["seconds_per_step"] = clock.median and round(clock.median, 4)
    return peft_model, figures


def _trainer(
    model: PeftModel,
    arguments: TrainingArguments,
    training: list[Row],
    validation: list[Row],
    clock: StepClock,
    quiet: bool,
) -> Trainer:
    from transformers import PrinterCallback, Trainer

    from experiment_04_finetuning.step_bar import StepBar

    trainer = Trainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=training,
        eval_dataset=validation or None,
        callbacks=[clock] if quiet else [clock, StepBar()],
    )
    # What it logs stands in trainer_state.json; here a bar shows it.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(
    settings: LoraSettings,
    seed: int,
    folder: Path,
    validated: bool,
    resumed: bool,
    max_steps: int,
) -> TrainingArguments:
    from transformers import TrainingArguments

    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=settings.batch,
        per_device_eval_batch_size=settings.batch,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        max_steps=max_steps or -1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        optim="adamw_torch",
        bf16=on_gpu,
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        seed=seed,
        data_seed=seed,
        logging_steps=LOGGED_EVERY,
        eval_strategy="steps" if validated else "no",
        eval_steps=1 / (VALIDATIONS_PER_EPOCH * settings.epochs),
        # A training that is resumed has validated its start before it was killed.
        eval_on_start=validated and not resumed,
        save_strategy="steps",
        save_steps=settings.checkpoint_every,
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
        disable_tqdm=True,
        report_to=[],
    )
    return on_one_device(arguments)


def on_one_device(arguments: TrainingArguments) -> TrainingArguments:
    """Keep to one GPU where there are several.

    The Trainer would split each batch over all of them, and make it as many times larger: on eight
    GPUs a step of 2 x 4 examples would silently be one of 64.
    """
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; those torn by a kill are removed.

    The Trainer writes ``trainer_state.json`` last.
    """
    checkpoints = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    whole = None
    for path in checkpoints:
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            whole = path
        except (OSError, ValueError):
            shutil.rmtree(path)
    return whole


def _figures(trainer: Trainer, model: PeftModel, training: Sequence[Encoded]) -> dict[str, Any]:
    """Of a training, for ``run.json`` and tables."""
    history = trainer.state.log_history
    losses = [point["loss"] for point in history if "loss" in point]
    validations = [point["eval_loss"] for point in history if "eval_loss" in point]
    trainable, total = model.get_nb_trainable_parameters()
    return {
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0.0), 3),
        "trainable_parameters": trainable,
        "parameters": total,
        "tokens_per_epoch": sum(len(e.ids) for e in training),
        "first_loss": losses[0] if losses else None,
        "last_loss": losses[-1] if losses else None,
        "validation_loss_before": validations[0] if validations else None,
        "validation_loss_after": validations[-1] if validations else None,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "peak_gpu_memory_gib": (
            round(torch.cuda.max_memory_allocated() / 2**30, 2)
            if torch.cuda.is_available()
            else None
        ),
    }
