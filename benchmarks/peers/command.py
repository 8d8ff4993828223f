"""The command line of the table of peers."""

from __future__ import annotations

import argparse
import gc
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import benchmarks.peers
from benchmarks import record
from benchmarks.peers import tables
from benchmarks.peers.plan import PACKAGES, Sizes, installed
from esr.errors import run_command

MODELS = ("tiny", "152m")
COUNTS = (0, 1, 8, 32, 64, 128, 256)
"""Of distinct configurations, as in EasySteer's own table."""

BATCH = {"requests": 256, "in_flight": 256}
"""Sizes with distinct configurations."""

TABLES: Mapping[str, Callable[[Mapping[str, Any] | None], str]] = {
    "peers": tables.peers,
    "distinct": tables.distinct,
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=benchmarks.peers.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "models", nargs="*", default=MODELS, help=f"keys or shapes; default: {' '.join(MODELS)}"
    )
    parser.add_argument("--distinct", action="store_true", help="K distinct boosts in one batch")
    parser.add_argument("--peers", nargs="*", choices=PACKAGES, default=list(PACKAGES))
    for field in fields(Sizes):
        default = f"default: {field.default}"
        if field.name in BATCH:
            default += f"; with --distinct {BATCH[field.name]}"
        parser.add_argument("--" + field.name.replace("_", "-"), type=int, help=default)
    parser.add_argument("--json", type=Path, help="where the figures go; default: a file of today")
    parser.add_argument("--table", action="store_true", help="only write the tables anew")
    return parser.parse_args(argv)


def sizes(options: argparse.Namespace) -> Sizes:
    """The options' sizes; one batch of 256 for distinct configurations."""
    given = {f.name: getattr(options, f.name) for f in fields(Sizes)}
    defaults = BATCH if options.distinct else {}
    return Sizes(**{**defaults, **{name: n for name, n in given.items() if n is not None}})


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All models, one after the other."""
    from benchmarks.peers.measure import compare, distinct, load

    size = sizes(options)
    names, missing = installed([] if options.distinct else options.peers)
    print(*missing, sep="\n" if missing else "", end="\n" if missing else "")
    data = record.heading(models=list(options.models))
    results = []
    for key in options.models:
        with tempfile.TemporaryDirectory() as folder:
            model = load(key, Path(folder))
            print(f"{model.spec.title}, load {record.load()}", flush=True)
            if options.distinct:
                counts = [k for k in COUNTS if k <= min(size.in_flight, model.spec.d_sae)]
                results.append(distinct(model, counts, size))
            else:
                results.append(compare(model, names, size))
            del model
            gc.collect()
    return {**data, "models": results, "missing": missing, "load_after": record.load()}


def write_tables() -> None:
    """Both tables of benchmarks/README.md, from the newest files."""
    for kind, make in TABLES.items():
        record.put(kind, make(record.newest(kind)))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the file, print the table."""
    options = arguments(argv)

    def command() -> None:
        if options.table:
            write_tables()
            return
        kind = "distinct" if options.distinct else "peers"
        data = measure(options)
        path = options.json or record.path_of(kind)
        record.save(path, data)
        print(f"\n{TABLES[kind](data)}\n\n{path}")

    return run_command(command)
