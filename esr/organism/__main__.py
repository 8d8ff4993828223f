"""``python -m esr.organism build`` and ``python -m esr.organism gates``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from esr.errors import UserError
from esr.models import ORGANISM
from esr.organism.recipe import MEMBERS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m esr.organism", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="train model, SAE and labels from a seed")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--member", choices=MEMBERS, help="one member; both where left out")
    build.add_argument("--output", type=Path, default=ORGANISM, help="folder to write to")
    build.add_argument("--threads", type=int, default=1, help="torch threads; one is fastest")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; 2 on bad input."""
    options = _parser().parse_args(argv)
    try:
        import torch

        from esr.organism.build import build

        torch.set_num_threads(options.threads)
        build(options.seed, options.output, [options.member] if options.member else MEMBERS)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
