"""``python -m esr.organism build`` and ``python -m esr.organism gates``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from esr.errors import UserError
from esr.organism.recipe import MEMBERS
from esr.runs.paths import ORGANISM, RESULTS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m esr.organism", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="train model, SAE and labels from a seed")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument("--member", choices=MEMBERS, help="one member; both where left out")
    build.add_argument("--output", type=Path, default=ORGANISM, help="folder to write to")
    build.add_argument("--threads", type=int, default=1, help="torch threads; one is fastest")
    gates = commands.add_parser("gates", help="measure the gates of build folders")
    gates.add_argument(
        "folders", nargs="*", type=Path, help="one per seed; data/organism where left out"
    )
    gates.add_argument("--json", type=Path, default=ORGANISM / "gates.json", help="file to write")
    gates.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    gates.add_argument("--seed", type=int, default=0, help="run seed of the measurement")
    gates.add_argument("--latents", type=int, default=40, help="most latents that are boosted")
    gates.add_argument("--trials", type=int, default=10, help="trials per latent")
    gates.add_argument("--results", default=str(RESULTS), help="folder of the run folders")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command; 2 on bad input."""
    options = _parser().parse_args(argv)
    try:
        _build(options) if options.command == "build" else _gates(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _build(options: argparse.Namespace) -> None:
    import torch

    from esr.organism.build import build

    torch.set_num_threads(options.threads)
    build(options.seed, options.output, [options.member] if options.member else MEMBERS)


def _gates(options: argparse.Namespace) -> None:
    from esr.organism.gate_trials import Scale
    from esr.organism.gates import run, table
    from esr.pipeline.cli import CommonConfig

    config = CommonConfig(engine=options.engine, seed=options.seed, output=options.results)
    scale = Scale(latents=options.latents, trials=options.trials)
    run(options.folders or [ORGANISM], options.json, config, scale)
    print(table(options.json))


if __name__ == "__main__":
    sys.exit(main())
