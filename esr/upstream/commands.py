"""``python -m esr.upstream fetch``, ``labels MODEL``, ``slides FILE`` and ``transcripts NAME``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from simple_parsing import field

from esr import models
from esr.errors import UserError
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


@dataclass(frozen=True, kw_only=True)
class SlideOptions:
    """Count responses in which the topic of another vector of the file turns up."""

    file: str = field(positional=True, metavar="FILE")
    """Results file or run folder, ours or the authors' (docs/pairing-fault.md)."""

    titles: str = field(default="", metavar="JSON")
    """File with a list of labels under "titles": those of no vector in the file are the measure
    of how often such words turn up anyway."""


@dataclass(frozen=True, kw_only=True)
class TranscriptOptions(FetchOptions):
    """Public transcripts of a replication as a results file, for judges to read."""

    name: str = field(positional=True, metavar="NAME")
    """esr-values (data/transcripts.json)."""

    file: str = field(default="", metavar="FILE")
    """Your own copy, where the file's SHA-256 is not pinned."""

    sha256: str = field(default="", metavar="DIGEST")
    """What the copy's SHA-256 has to be."""


def fetch_transcripts(options: TranscriptOptions) -> None:
    """Download or check, then convert the transcripts of a replication."""
    from esr.upstream import transcripts

    listed, folder = transcripts.get(options.name), paths.WORK / "upstream" / "transcripts"
    if options.file:
        content = transcripts.own_copy(Path(options.file), options.sha256)
    else:
        pinned = listed.manifest()
        if options.dry_run:
            print(pinned.url(pinned.files[0], options.mirror))
            return
        from esr.upstream.fetch import fetch

        fetch(pinned, folder / listed.name, options.mirror)
        content = manifest.checked_bytes(pinned, folder / listed.name, listed.path)
    target = folder / f"{listed.name}.json"
    responses, concepts = transcripts.convert(listed, content, target)
    print(f"{responses} responses under {concepts} concepts, not judged yet -> {target}")


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


def count_slides(options: SlideOptions) -> None:
    """Print the counts, and which label stands in which response; no text of a response."""
    from esr.runs.results import read_results
    from esr.upstream.slides import SHORTEST, count

    titles = _titles(Path(options.titles)) if options.titles else []
    found = count(read_results(Path(options.file)), titles)
    print(f"{found.responses} responses; a label stands where one of its words of {SHORTEST} or")
    print("more letters begins a word of the response and none of the prompt")
    print(f"own label: in {found.own} of {found.responses}")
    print(
        f"label of another vector of the file: in {found.with_slide} of {found.responses} "
        f"responses, {len(found.slides)} of {found.pairs} pairs"
    )
    for slide in found.slides:
        print(f"  {slide.trial.split('/')[0]} {slide.own}: {slide.other}")
    if found.chance is not None:
        print(f"labels of no vector here: {found.elsewhere} of {found.elsewhere_pairs} pairs;")
        print(f"as many by chance, sets of labels drawn from all: {found.chance:.4f}")


def _titles(path: Path) -> list[str]:
    problem = ""
    try:
        titles = json.loads(path.read_text(encoding="utf-8"))["titles"]
        if isinstance(titles, list) and all(isinstance(title, str) for title in titles):
            return titles
    except (OSError, ValueError, LookupError, TypeError) as error:
        problem = f" ({error})"
    raise UserError(
        f"--titles {path} has no list of titles{problem}",
        'JSON with {"titles": ["...", ...]}',
        "leave --titles out, or name wikipedia_200_titles.json of the authors",
    )


STEPS = {
    "fetch": commands.step(FetchOptions, fetch_files, f"{PROGRAM} fetch"),
    "slides": commands.step(SlideOptions, count_slides, f"{PROGRAM} slides"),
    "labels": commands.step(LabelOptions, fetch_labels, f"{PROGRAM} labels"),
    "transcripts": commands.step(TranscriptOptions, fetch_transcripts, f"{PROGRAM} transcripts"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commands.choose(PROGRAM, STEPS, argv=argv)
