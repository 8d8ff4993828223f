"""``python -m esr.export parquet RUN...`` and ``python -m esr.export inspect RUN``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from simple_parsing import field

from esr.errors import UserError
from esr.runs import commands

PROGRAM = "python -m esr.export"


@dataclass(frozen=True, kw_only=True)
class ParquetOptions:
    """Trials, verdicts, attempts, thresholds and latents of runs as tables with a data card."""

    run: list[str] = field(positional=True, nargs="+", metavar="RUN")  # noqa: RUF009
    """Run folders, folders with runs below them, or results files."""

    output: str = field(default="export", metavar="DIR")
    """Folder to write to."""


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """A run as a log that inspect view opens, attempts and verdicts in it."""

    run: str = field(positional=True, metavar="RUN")
    """A run folder or a results file."""

    arm: str = field(default="", metavar="NAME")
    """Which condition; every arm a log of its own where left out."""

    output: str = field(default="logs", metavar="DIR")
    """Folder to write to."""


def write_parquet(options: ParquetOptions) -> None:
    """The tables and their card."""
    from esr.export import parquet, source

    counts = parquet.write(source.read_all(options.run), Path(options.output))
    for name, rows in counts.items():
        print(f"{rows:>9,}  {Path(options.output) / f'{name}.parquet'}")
    print(f"{'':9}  {Path(options.output) / parquet.CARD}")


def write_inspect(options: InspectOptions) -> None:
    """One log for each arm."""
    if find_spec("inspect_ai") is None:
        raise UserError("inspect_ai is not installed", "", "pip install .[inspect]")
    from esr.export import inspect_log, source

    for run in source.read_all([options.run]):
        for arm in [options.arm] if options.arm else inspect_log.arms(run):
            name = "".join(c if c.isalnum() or c == "-" else "-" for c in f"{run.name}-{arm}")
            path = Path(options.output) / f"{name}.eval"
            print(f"{inspect_log.write(run, arm, path):>9,}  {path}")
    print(f"next: inspect view --log-dir {options.output}")


STEPS = {
    "parquet": commands.step(ParquetOptions, write_parquet, f"{PROGRAM} parquet"),
    "inspect": commands.step(InspectOptions, write_inspect, f"{PROGRAM} inspect"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commands.choose(PROGRAM, STEPS, argv=argv)
