"""Latent labels from Neuronpedia's public exports (PAPER section 2)."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path

import requests

from esr.errors import UserError
from esr.models import ModelSpec
from esr.runs import progress
from esr.upstream.fetch import MissingError, download

MOST_BATCHES = 5_000
"""Files of an export; the largest of the paper's models has some hundreds."""

LARGEST_BATCH = 1 << 28
"""Bytes of one batch once unpacked."""

BUCKET = "https://neuronpedia-datasets.s3.us-east-1.amazonaws.com"


@dataclass(frozen=True)
class Export:
    """What a label download brought.

    Attributes:
        path: the CSV with columns ``index`` and ``description``.
        labels: latents with a label.
        repeated: further labels of latents that had one; the first is kept.
        batches: files of the export.
    """

    path: Path
    labels: int
    repeated: int
    batches: int


def fetch_labels(model: ModelSpec, mirror: str = "", quiet: bool = False) -> Export:
    """Download all batches of a model's export and write them as one CSV.

    Batches that have arrived are kept beside the CSV until it is complete, so that a repeated
    command goes on.

    Raises:
        UserError: the model has no export, or a download failed.
    """
    if not model.neuronpedia:
        raise UserError(f"model {model.key} has no Neuronpedia export", "", "name another model")
    target = model.label_file
    batches = target.with_name(target.name + ".batches")
    base = f"{mirror.rstrip('/') or BUCKET}/v1/{model.neuronpedia}/explanations"
    files = _download_all(base, batches, quiet)
    labels, repeated = _read_all(files, model.d_sae)
    _write(target, labels)
    shutil.rmtree(batches)
    return Export(target, len(labels), repeated, len(files))


def _download_all(base: str, folder: Path, quiet: bool) -> list[Path]:
    files = []
    batches = progress.bar(None, "label batches", "file", quiet=quiet)
    with requests.Session() as session, batches as bar:
        for number in itertools.count():
            target = folder / f"batch-{number}.jsonl.gz"
            if not target.is_file():
                try:
                    part = download(session, f"{base}/{target.name}", folder / f"{number}.part")
                except MissingError:
                    break
                part.replace(target)
            if number >= MOST_BATCHES:
                raise UserError(
                    f"{base} goes on and on", f"{MOST_BATCHES:,} batches", "try --mirror URL"
                )
            files.append(target)
            bar.update()
    if not files:
        raise UserError(
            f"{base}/batch-0.jsonl.gz does not exist", "a label export", "try --mirror URL"
        )
    return files


_DAMAGED = (
    *(OSError, EOFError, zlib.error, ValueError, LookupError, AttributeError),
    *(TypeError, OverflowError, RecursionError),
)


def _read_all(files: list[Path], d_sae: int) -> tuple[dict[int, str], int]:
    labels: dict[int, str] = {}
    repeated = 0
    for path in files:
        try:
            with gzip.open(path) as file:
                content = file.read(LARGEST_BATCH + 1)
            if len(content) > LARGEST_BATCH:
                raise ValueError(f"more than {LARGEST_BATCH:,} bytes")
            rows = [json.loads(line) for line in content.splitlines() if line.strip()]
            pairs = [(int(row["index"]), " ".join(row["description"].split())) for row in rows]
        except _DAMAGED as error:
            path.unlink()
            raise UserError(
                f"{path.name} of the label export is damaged ({error})",
                "gzipped JSON lines",
                "repeat the command",
            ) from error
        for index, description in pairs:
            if not 0 <= index < d_sae:
                raise UserError(
                    f"{path.name} labels latent {index}", f"0 to {d_sae - 1}", "check the model"
                )
            repeated += index in labels
            labels.setdefault(index, description)
    return labels, repeated


def _write(target: Path, labels: dict[int, str]) -> None:
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    with part.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("index", "description"))
        writer.writerows(sorted(labels.items()))
    part.replace(target)
