"""``python -m esr.upstream fetch`` and ``python -m esr.upstream labels MODEL``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from esr import models, upstream
from esr.errors import UserError
from esr.upstream import manifest


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m esr.upstream",
        description="Download the authors' prompts and rubrics, or a model's latent labels.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="the authors' files, checked and parsed")
    labels = commands.add_parser("labels", help="latent labels from Neuronpedia")
    known = [key for key, spec in models.REGISTRY.items() if spec.neuronpedia]
    labels.add_argument("model", help=", ".join(known))
    for command in (fetch, labels):
        command.add_argument("--mirror", default="", metavar="URL", help="base address to use")
        command.add_argument("--dry-run", action="store_true", help="show addresses, fetch nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 2 on a user's error."""
    arguments = _parser().parse_args(argv)
    try:
        return _fetch(arguments) if arguments.command == "fetch" else _labels(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _fetch(arguments: argparse.Namespace) -> int:
    files = manifest.load()
    if arguments.dry_run:
        for file in files.files:
            print(files.url(file, arguments.mirror))
        return 0
    from esr.upstream.fetch import fetch

    fresh = fetch(files, upstream.folder(), arguments.mirror)
    print(f"{len(files.files)} files of {files.repository} at {files.commit[:12]}, all checked")
    print(f"{len(fresh)} downloaded now, into {upstream.folder()}")
    found = upstream.prompt_set()
    upstream.judge_rubric()
    print(f"{len(found.prompts)} prompts, {len(found.meta_prompts)} meta-prompts, rubric read")
    return 0


def _labels(arguments: argparse.Namespace) -> int:
    model = models.get(arguments.model)
    if arguments.dry_run:
        from esr.upstream.labels import BUCKET

        base = arguments.mirror or BUCKET
        print(f"{base}/v1/{model.neuronpedia}/explanations/batch-N.jsonl.gz -> {model.label_file}")
        return 0
    from esr.upstream.labels import fetch_labels

    export = fetch_labels(model, arguments.mirror)
    print(
        f"{export.labels} of {model.d_sae} latents labelled, {export.repeated} repeated labels "
        f"left out, {export.batches} batches -> {export.path}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
