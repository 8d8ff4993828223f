"""What writing and training need, and whether it is there; evaluation needs what trials need."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from esr.engine import throughput
from esr.errors import UserError
from esr.models.weights import GIB, main_memory
from esr.pipeline import preflight
from esr.pipeline.preflight import Need
from esr.runs import provenance
from experiment_04_finetuning.dry_run import ASSUMED_TOKENS, gpu_memory
from experiment_04_finetuning.settings import TEMPLATE
from experiment_04_finetuning.sweep import Sweep

MIXES = "mixes"

BYTES_PER_EXAMPLE = 20_000
"""On disk, in the journal and in nine mixes: an estimate, above what examples of 1,000 characters
take."""


def generate_needs(sweep: Sweep) -> list[Need]:
    """What writing the examples needs."""
    writer = sweep.data.writer
    key = Need("writer", "ready", "templates: needs no key")
    examples = BYTES_PER_EXAMPLE * sweep.data.examples
    return [
        key if writer == TEMPLATE else preflight.judge_key(writer, f"--writer {TEMPLATE}"),
        preflight.room("disk, examples", Path(sweep.output), examples),
    ]


def trained(sweeps: Sequence[Sweep], *, new: bool = False) -> bool:
    """Whether every mix has been trained on, so that nothing is needed."""
    with contextlib.suppress(UserError):
        return all(
            sweep.training_run(percent, new=new).status == "complete"
            for sweep in sweeps
            for percent in sweep.data.percents
        )
    return False


def train_needs(sweeps: Sequence[Sweep], *, online: bool = False) -> list[Need]:
    """What the trainings need.

    Args:
        sweeps: settings of the trainings, one per training seed.
        online: whether the network may be asked.
    """
    sweep = sweeps[0]
    weights = len(sweeps) * len(sweep.data.percents) * sweep.spec.parameters * 1e9 * 2
    return [
        _mixes(sweep),
        preflight.weights(sweep.spec, online),
        _memory(sweep),
        preflight.room("disk, models", Path(sweep.output), round(weights)),
    ]


def _mixes(sweep: Sweep) -> Need:
    def folder() -> str:
        paths = [sweep.mix_file(percent) for percent in sweep.data.percents]
        return str(paths[0].parent)

    return preflight.checked(MIXES, folder)


def _memory(sweep: Sweep) -> Need:
    """Whether a training fits: batches of the usual length; the longest may still be too long."""
    spec = sweep.spec
    if spec.organism:
        return Need("memory", "ready", "the organism is trained on a CPU")
    if spec.shape is None:
        return Need("memory", "not checked", "the model's entry has no shape")
    wanted = gpu_memory(spec, spec.shape, sweep.lora, ASSUMED_TOKENS)
    gpus = throughput.gpus(provenance.gpus())
    where = "the largest GPU here" if gpus else "this machine, without a GPU,"
    have = max(gpu.memory for gpu in gpus) / GIB if gpus else main_memory() / GIB
    detail = f"{wanted:,.0f} GiB at least, estimate; {where} has {have:,.1f} GiB"
    if wanted < have:
        return Need("memory", "ready", detail)
    return Need("memory", "missing", f"{detail}; next: a larger GPU, or --batch 1")
