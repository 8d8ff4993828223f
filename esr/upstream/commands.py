"""``python -m esr.upstream fetch`` and ``python -m esr.upstream labels MODEL``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simple_parsing import field

from esr import models
from esr.runs import commands, paths
from esr.upstream import manifest

PROGRAM = "python -m esr.upstream"


@dataclass(frozen=True, kw_only=True)
class FetchOptions:
    """Download the authors' prompts and rubrics, checked and parsed."""

    mirror: str = field(default="", metavar="URL")
    """Base address to use."""

    dry_run: bool = field(default=False, action="store_true")
    """Show addresses, fetch nothing."""


@dataclass(frozen=True, kw_only=True)
class LabelOptions(FetchOptions):
    """Download a model's latent labels from Neuronpedia."""

    model: str = field(positional=True, metavar="MODEL")
    """70b, 8b, gemma-2b, gemma-9b, gemma-27b, or a model file with a neuronpedia entry."""


def fetch_files(options: FetchOptions) -> None:
    """Download, check and parse the authors' files."""
    files = manifest.load()
    if options.dry_run:
        for file in files.files:
            print(files.url(file, options.mirror))
        return
    from esr.upstream.convert import convert
    from esr.upstream.fetch import fetch

    folder = paths.WORK / "upstream"
    fresh = fetch(files, folder, options.mirror)
    print(f"{len(files.files)} files of {files.repository} at {files.commit[:12]}, all checked")
    print(f"{len(fresh)} downloaded now, into {folder}")
    questions, variants = convert(files, folder)
    print(
        f"{questions} prompts, {variants} meta-prompts and the rubric, for --prompts and --rubric"
    )


def fetch_labels(options: LabelOptions) -> None:
    """Download the labels of one model."""
    from esr.upstream import labels

    model = models.get(options.model)
    if options.dry_run:
        base = options.mirror or labels.BUCKET
        print(f"{base}/v1/{model.neuronpedia}/explanations/batch-N.jsonl.gz -> {model.label_file}")
        return
    export = labels.fetch_labels(model, options.mirror)
    print(
        f"{export.labels} of {model.d_sae} latents labelled, {export.repeated} repeated labels "
        f"left out, {export.batches} batches -> {export.path}"
    )


STEPS = {
    "fetch": commands.step(FetchOptions, fetch_files, f"{PROGRAM} fetch"),
    "labels": commands.step(LabelOptions, fetch_labels, f"{PROGRAM} labels"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commands.choose(PROGRAM, STEPS, argv=argv)
