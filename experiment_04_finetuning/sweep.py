"""The sweep: one data set, one fine-tuned model per mix, each in a run folder of its own.

``<results>/finetuning-data/<model>/<id>/`` holds the examples, the mixes and their statistics;
``<results>/finetuning/<model>/<id>/`` one training: checkpoints, loss curve, adapter, and
``model/``, the merged weights. Weights are never committed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esr import judge
from esr.errors import UserError
from esr.judge.ledger import Ledger
from esr.models import ModelSpec, chat
from esr.models.identity import at_commit, model_identity
from esr.models.prompts import PromptSet
from esr.pipeline.journal_schema import is_valid
from esr.runs import seeds
from esr.runs.folder import RunFolder, write_json
from esr.runs.plain import file_digest
from experiment_04_finetuning import llm_writer
from experiment_04_finetuning.examples import Example, items, load_subjects
from experiment_04_finetuning.masking import encode
from experiment_04_finetuning.mixes import Mix, describe, mix
from experiment_04_finetuning.settings import TEMPLATE, DataSettings, LoraSettings, identity
from experiment_04_finetuning.templates import TemplateWriter
from experiment_04_finetuning.writing import Writer, write_examples

DATA_RUNS, TRAINING_RUNS = "finetuning-data", "finetuning"

MOST_FAILED = 0.02
"""Largest share of examples that may be missing; more is a fault to be looked at."""


@dataclass(frozen=True)
class Sweep:
    """All that decides the fine-tuned models of one base model.

    Attributes:
        spec: the base model.
        prompts: asked in the examples.
        data: which examples, which mixes.
        lora: hyperparameters.
        seed: the run seed.
        output: the results folder.
        training_seed: decides initial adapters, the order of examples and dropout, and nothing
            of the data.
        typed: options to be typed again for the same sweep, with a leading space, or empty.
    """

    spec: ModelSpec
    prompts: PromptSet
    data: DataSettings
    lora: LoraSettings
    seed: int
    output: Path
    training_seed: int = 0
    typed: str = ""

    @property
    def subjects(self) -> list[str]:
        """What self-corrections drift to."""
        if self.data.subjects:
            return load_subjects(Path(self.data.subjects))
        if self.data.writer == TEMPLATE:
            return TemplateWriter(self.seed).subjects
        return load_subjects()

    @property
    def writer_id(self) -> str:
        """Who writes, and by which instructions; needs no key."""
        if self.data.writer == TEMPLATE:
            return TemplateWriter(self.seed).id
        return llm_writer.writer_id(judge.resolve(self.data.writer))

    def writer(self, ledger: Ledger | None = None, sample: str = "") -> Writer:
        """Who writes.

        Args:
            ledger: where answers are paid.
            sample: names the data set, so that a fresh one has texts of its own.

        Raises:
            UserError: unknown writer.
        """
        if self.data.writer == TEMPLATE:
            return TemplateWriter(self.seed)
        client = judge.create_client(self.data.writer, ledger=ledger)
        return llm_writer.LlmWriter(client, sample)

    def data_run(self, *, new: bool = False) -> RunFolder:
        """Where the data set is, or will be."""
        named_by = {
            "settings": identity(self.data),
            "subjects": self.subjects,
            "writer": self.writer_id,
            "prompts": self.prompts.digest,
            "seed": self.seed,
        }
        return RunFolder.locate(
            self.output, DATA_RUNS, self.spec.key, named_by, new=new, check=is_valid
        )

    def training_run(self, percent: int, *, new: bool = False) -> RunFolder:
        """Where the training of one mix is, or will be.

        Raises:
            UserError: the mix has not been made.
        """
        base = model_identity(at_commit(self.spec))
        named_by = {
            "settings": identity(self.lora),
            "percent": percent,
            "mix": file_digest(self.mix_file(percent), 16),
            "base": {k: base[k] for k in ("hf_id", "revision", "weights") if k in base},
            "training_seed": self.training_seed,
        }
        return RunFolder.locate(self.output, TRAINING_RUNS, self.spec.key, named_by, new=new)

    def mix_file(self, percent: int) -> Path:
        """The examples of a mix, one per line.

        Raises:
            UserError: it has not been made.
        """
        path = self.data_run().path / _mix_name(percent)
        if not path.is_file():
            raise UserError(
                f"no mix with {percent} % self-correction for model {self.spec.key}",
                "mixes that generate has made with the same options",
                f"python -m experiment_04_finetuning generate {self.spec.key} --percents {percent}"
                f"{self.typed}",
            )
        return path

    def fine_tuned(self, percent: int) -> ModelSpec:
        """The fine-tuned model: the base model's entry with other weights, and nothing else.

        Chat template, dictionary, labels, layers, prompts, judge and generation profiles are the
        base model's, so that the two differ in their weights alone.

        Raises:
            UserError: it has not been trained.
        """
        run = self.training_run(percent)
        if run.status != "complete" or not (run.path / "model").is_dir():
            raise UserError(
                f"no model fine-tuned on {percent} % self-correction from {self.spec.key}",
                "models that train has made with the same options",
                f"python -m experiment_04_finetuning train {self.spec.key} --percents {percent}"
                f"{self.typed}, or evaluate with the --percents that were trained",
            )
        again = f", training seed {self.training_seed}" if self.training_seed else ""
        return replace(
            self.spec,
            key=f"{self.spec.key}+ft-{percent}"
            + (f"-seed-{self.training_seed}" if self.training_seed else ""),
            title=f"{self.spec.title}, fine-tuned on {percent} %{again}",
            hf_id=str(run.path / "model"),
            revision="main",
            labels=self.spec.label_file,
        )


async def generate(
    sweep: Sweep, *, new: bool = False, max_spend: float = 0.0, quiet: bool = False
) -> dict[str, Any]:
    """Write the examples, build the mixes and their statistics; what exists is kept.

    Raises:
        UserError: too many examples could not be written.
        SpendLimitError: the limit is reached.
    """
    wanted = items(sweep.prompts.prompts, sweep.subjects, sweep.data, sweep.seed)
    template = chat.load(sweep.spec)
    with sweep.data_run(new=new) as run:
        ledger = Ledger(max_spend)
        ledger.open(run.journal)
        writer = sweep.writer(ledger, run.metadata.run_id)
        try:
            pool, failed = await write_examples(wanted, writer, run.journal, quiet=quiet)
        finally:
            await writer.close()
        if len(failed) > MOST_FAILED * len(wanted):
            raise UserError(
                f"{len(failed)} of {len(wanted)} examples could not be written; "
                f"the first: {next(iter(failed.values()))}",
                f"at most {MOST_FAILED:.0%}",
                "repeat the command; examples so far are kept",
            )
        statistics_by_mix = _read_json(run.path / "statistics.json").get("mixes", {})
        mixes = [mix(pool, percent, sweep.data, sweep.seed) for percent in sweep.data.percents]
        for each in mixes:
            _write_mix(run.path / _mix_name(each.percent), each)
            statistics_by_mix[str(each.percent)] = describe(each, template, sweep.lora.max_length)
        statistics = {
            "writer": sweep.writer_id,
            "seed": sweep.seed,
            "prompts": len(sweep.prompts.prompts),
            "subjects": len(sweep.subjects),
            "pool": _pool_counts(pool, failed),
            "spend": round(ledger.spent_in_run, 6),
            "mixes": dict(sorted(statistics_by_mix.items(), key=lambda entry: int(entry[0]))),
        }
        write_json(run.path / "statistics.json", statistics)
        return statistics


def train_mix(sweep: Sweep, percent: int, *, new: bool = False) -> Path:
    """Fine-tune on one mix and merge; the folder of the training.

    A finished training is left alone; a killed one goes on from its last checkpoint.

    Raises:
        UserError: no such mix, or the model does not load or fit.
    """
    run = sweep.training_run(percent, new=new)
    if run.status == "complete" and (run.path / "model").is_dir():
        return run.path
    from experiment_04_finetuning.merging import load_base, merge, release
    from experiment_04_finetuning.training import arithmetic, train

    mixed = _read_mix(sweep.mix_file(percent), percent)
    template = chat.load(sweep.spec)
    length = sweep.lora.max_length
    with run as opened:
        opened.update(percent=percent, base=sweep.spec.key, mix=str(sweep.mix_file(percent)))
        opened.update(training_seed=sweep.training_seed, arithmetic=arithmetic())
        checkpoints = opened.path / "checkpoints"
        model, figures = train(
            load_base(sweep.spec),
            [encode(example, template, length) for example in mixed.train],
            [encode(example, template, length) for example in mixed.validation],
            sweep.lora,
            seeds.derive(sweep.training_seed, "fine-tuning", percent),
            checkpoints,
        )
        _write_losses(checkpoints / "loss.json", opened.path / "loss.csv")
        model.save_pretrained(opened.path / "adapter")
        merge(model, template.tokenizer, opened.path / "model")
        opened.update(training=figures)
        shutil.rmtree(checkpoints)
    del model
    release()
    return run.path


def _mix_name(percent: int) -> str:
    return f"mix-{percent}.jsonl"


def _pool_counts(pool: Iterable[Example], failed: dict[str, str]) -> dict[str, Any]:
    kinds = [example.item.kind for example in pool]
    return {
        "self_correction": kinds.count("self_correction"),
        "normal": kinds.count("normal"),
        "failed": failed,
    }


def _write_mix(path: Path, mix: Mix) -> None:
    lines = [{**example.to_json(), "split": "train"} for example in mix.train]
    lines += [{**example.to_json(), "split": "validation"} for example in mix.validation]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def _read_mix(path: Path, percent: int) -> Mix:
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    parts: dict[str, tuple[Example, ...]] = {
        split: tuple(Example.from_json(line) for line in lines if line["split"] == split)
        for split in ("train", "validation")
    }
    return Mix(percent, parts["train"], parts["validation"])


def _write_losses(history: Path, table: Path) -> None:
    """The loss curve as CSV: one row per point that was logged."""
    import pandas as pd

    columns = ["step", "epoch", "loss", "eval_loss", "learning_rate", "grad_norm"]
    points = json.loads(history.read_text(encoding="utf-8"))
    curve = [point for point in points if "loss" in point or "eval_loss" in point]
    pd.DataFrame(curve).reindex(columns=columns).to_csv(table, index=False)


def _read_json(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return data
