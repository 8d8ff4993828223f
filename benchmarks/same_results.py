"""Whether a rebuilding changed a result: run everything in two checkouts and compare.

python -m benchmarks.same_results snapshot CHECKOUT FOLDER
python -m benchmarks.same_results compare BEFORE AFTER [--only KIND] [--added-keys-allowed]

A snapshot runs the README's demo command, every other experiment with few trials and every dry run
in CHECKOUT, on the organism and without a key. Repeated with the same FOLDER, it goes on where it
was cut off. It keeps what a rebuilding must not change:

    ids.json             run ids of each command
    results/             results.json of each run
    figures/             the numbers under each figure, as CSV
    dry-runs/            what each --dry-run prints

Time, commit and machine stand in run.json, which is not compared. What else belongs to a snapshot
and not to a result, the paths of its folders, ids and digests of its runs, is replaced by words.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FEW = ("--n-latents", "10", "--n-trials", "6")
TRAINING = (
    *("tiny-base", "--percents", "40", "--examples", "120", "--epochs", "2"),
    *("--n-latents", "6", "--n-trials", "4"),
)
RUNS: Mapping[str, Sequence[str]] = {
    "1": ("experiment_01_esr", "tiny"),
    "2": ("experiment_02_multi_boost", "tiny", *FEW, "--n-boosts", "4"),
    "3-find": ("experiment_03_off_topic_detectors", "find", "tiny", "--permutations", "200"),
    "3-ablate": ("experiment_03_off_topic_detectors", "ablate", "tiny", *FEW, "--doses", "0", "1"),
    "5-monitor": ("experiment_05_prompt_variants", "tiny", *FEW, "--variants", "self_monitor"),
    "5-resist": (
        "experiment_05_prompt_variants",
        "tiny",
        *FEW,
        "--variants",
        "resist_manipulation",
    ),
    "6": ("experiment_06_sequential_activations", "tiny"),
    "7": ("experiment_07_cross_judge", "tiny"),
    "8": ("experiment_08_no_steering_baseline", "tiny", *FEW),
    "9": ("experiment_09_activation_stats", "all", "tiny", "--n-episodes", "40"),
    "10": ("experiment_10_random_latent_control", "run-random", "tiny", *FEW, "--n-sets", "2"),
    "4-generate": ("experiment_04_finetuning", "generate", *TRAINING),
    "4-train": ("experiment_04_finetuning", "train", *TRAINING),
    "4-evaluate": ("experiment_04_finetuning", "evaluate", *TRAINING),
    "1-reference": (
        *("experiment_01_esr", "tiny", "--engine", "transformers"),
        *("--n-latents", "2", "--n-trials", "3"),
    ),
}
"""Commands by name, in an order in which each finds the runs it builds on.

The last one is made after the figures, which would otherwise show it in place of the first.
"""

LAST = "1-reference"
MODELS = ("70b", "8b", "gemma-27b", "tiny")
PLANNED = (
    *(("experiment_01_esr", model) for model in ("gemma-2b", "gemma-9b", "tiny-base")),
    ("experiment_01_esr", "70b", "--profile", "release", "--replicas", "2"),
    ("experiment_01_esr", "8b", "--judge", "gpt-5-mini", "--n-latents", "7", "--n-trials", "2"),
    ("experiment_03_off_topic_detectors", "find", "tiny", "--prompts", "held-out"),
    ("experiment_05_prompt_variants", "70b", "--no-steering"),
    ("experiment_07_cross_judge", "8b", "--judges", "haiku,gpt-5-mini"),
)
"""Dry runs beside those of every command of `RUNS` for each of `MODELS`."""

ROUNDING = 1e-12
"""Relative difference up to which two floats are one: a sum in another order, nothing more."""

KINDS = ("ids", "results", "figures", "dry-runs")
SHOWN = 5
"""Differences printed of each item."""


def snapshot(checkout: Path, folder: Path) -> None:
    """Run everything in ``checkout`` and keep what it came to in ``folder``.

    Raises:
        SystemExit: a command failed; what it printed is in ``FOLDER/logs``.
    """
    work, ids = folder / "work", dict[str, dict[str, str]]()
    for name, command in RUNS.items():
        if name == LAST:
            _figures(checkout, folder)
        before = _runs(work / "results")
        done = folder / "logs" / f"{name}.new"
        _call(checkout, folder, name, ["-m", *command, "--output", str(work / "results")])
        # A command that ended in an earlier call finds its own runs again and makes none.
        if not done.exists():
            done.write_text("\n".join(str(path) for path in _runs(work / "results") - before))
        ids[name] = {}
        for run in sorted(Path(line) for line in done.read_text().split()):
            place = str(run.relative_to(work / "results").parent)
            ids[name][place] = run.name
            if (run / "results.json").exists():
                target = folder / "results" / name / f"{place.replace('/', '.')}.json"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(run / "results.json", target)
        (folder / "ids.json").write_text(json.dumps(ids, indent=1))
    for words in _dry_runs():
        name = "_".join(words).replace("/", ".")
        target = folder / "dry-runs" / f"{name}.txt"
        target.parent.mkdir(exist_ok=True)
        output = ("--output", str(work / "results"), "--dry-run")
        target.write_text(_call(checkout, folder, f"dry-{name}", ["-m", *words, *output], (0, 2)))


def _dry_runs() -> list[tuple[str, ...]]:
    commands = {tuple(command[: 1 + ("tiny" not in command[1])]) for command in RUNS.values()}
    return sorted({(*command, model) for command in commands for model in MODELS}) + list(PLANNED)


def _runs(results: Path) -> set[Path]:
    return {path.parent for path in results.glob("*/*/*/run.json")}


def _figures(checkout: Path, folder: Path) -> None:
    paths = ["--results", str(folder / "work/results"), "--output", str(folder / "work/figures")]
    _call(checkout, folder, "figures", ["plotting/plot_all.py", *paths])
    (folder / "figures").mkdir(exist_ok=True)
    for path in (folder / "work/figures").glob("*.csv"):
        shutil.copy(path, folder / "figures")


def _call(
    checkout: Path,
    folder: Path,
    name: str,
    arguments: Sequence[str],
    allowed: tuple[int, ...] = (0,),
) -> str:
    """What a Python command prints, its status last; its progress goes to ``logs``."""
    log = folder / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    own = {"PYTHONPATH": str(checkout), "ESR_CACHE": str(folder / "work/cache")}
    print(f"{name}: python {' '.join(arguments)}", flush=True)
    with log.open("w") as errors:
        ended = subprocess.run(
            *([sys.executable, *arguments],),
            cwd=checkout,
            env={**os.environ, **own},
            text=True,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    if ended.returncode not in allowed:
        raise SystemExit(f"error: {name} ended with status {ended.returncode}; next: read {log}")
    refused = log.read_text().splitlines()[-1:] if ended.returncode else []
    text = "\n".join([ended.stdout, *refused, f"status {ended.returncode}", ""])
    return text.replace(str(folder / "work"), "WORK").replace(str(checkout), "CHECKOUT")


def items(folder: Path, kind: str) -> dict[str, dict[str, Any]]:
    """Every item of one kind as values by their place in it."""
    if kind == "ids":
        return {"run ids": dict(leaves(json.loads((folder / "ids.json").read_text())))}
    runs = json.loads((folder / "ids.json").read_text())
    names = {i: f"run {n} {place}" for n, ids in runs.items() for place, i in ids.items()}
    # A replay names its parent by the digest of the file too, which new keys change.
    for path in sorted((folder / "results").rglob("*.json")):
        place = path.relative_to(folder)
        names[hashlib.sha256(path.read_bytes()).hexdigest()[:16]] = f"digest of {place}"
    read = {}
    for path in sorted(p for p in (folder / kind).rglob("*") if p.is_file()):
        text = path.read_text().replace(str(folder / "work"), "WORK")
        for run_id, name in names.items():
            text = text.replace(run_id, name)
        read[str(path.relative_to(folder / kind))] = dict(_values(text, path.suffix))
    return read


def _values(text: str, suffix: str) -> Iterator[tuple[str, Any]]:
    if suffix == ".json":
        yield from leaves(json.loads(text))
    elif suffix == ".csv":
        for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
            for column, value in row.items():
                yield f"line {number}, {column}", _number(value)
    else:
        yield from ((f"line {i}", line) for i, line in enumerate(text.splitlines(), 1))


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested JSON with its place."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in inner:
        where = f"{place}.{key}" if place else str(key)
        if isinstance(child, dict | list) and child:
            yield from leaves(child, where)
        else:
            yield where, child


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], added_allowed: bool
) -> tuple[list[str], list[str]]:
    """What differs, as sentences; and the places only ``after`` has, where these are allowed."""
    wrong = [f"{place}: gone (was {before[place]!r})" for place in before if place not in after]
    added = [place for place in after if place not in before]
    for place, value in before.items():
        if place in after and not _same(value, after[place]):
            wrong.append(f"{place}: {value!r} -> {after[place]!r}")
    if added_allowed:
        return wrong, added
    return wrong + [f"{place}: new ({after[place]!r})" for place in added], []


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        gap = abs(one - other)
        return one == other or gap <= ROUNDING * abs(one) or (one != one and other != other)
    return type(one) is type(other) and bool(one == other)


def compare(
    before: Path, after: Path, kinds: Sequence[str] = KINDS, added_allowed: bool = False
) -> bool:
    """Print each item and whether it is equal; returns whether all are."""
    equal = True
    for kind in kinds:
        old, new = items(before, kind), items(after, kind)
        for name in sorted(old.keys() | new.keys()):
            if name not in new or (name not in old and not added_allowed):
                equal = False
                print(f"{kind} {name}: only {'before' if name in old else 'after'}")
                continue
            wrong, added = differences(old.get(name, {}), new[name], added_allowed)
            equal &= not wrong
            keys = sorted({place.rsplit(".", 1)[-1] for place in added})
            more = f", {len(added)} added: {', '.join(keys)}" if added else ""
            print(f"{kind} {name}: {f'{len(wrong)} differ' if wrong else 'equal'}{more}")
            for line in wrong[:SHOWN]:
                print(f"    {line}")
    return equal


def main(argv: Sequence[str] | None = None) -> int:
    """The command line: 0 if all is equal, 1 if something differs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_results")
    actions = parser.add_subparsers(dest="action", required=True)
    taken = actions.add_parser("snapshot", help="run everything in a checkout")
    taken.add_argument("checkout", type=Path)
    taken.add_argument("folder", type=Path)
    compared = actions.add_parser("compare", help="compare two snapshots")
    compared.add_argument("before", type=Path)
    compared.add_argument("after", type=Path)
    compared.add_argument("--only", choices=KINDS, action="append", help="only this kind")
    compared.add_argument(
        "--added-keys-allowed", action="store_true", help="what only AFTER has is no difference"
    )
    options = parser.parse_args(argv)
    if options.action == "snapshot":
        snapshot(options.checkout.resolve(), options.folder.resolve())
        return 0
    kinds = options.only or KINDS
    return not compare(options.before, options.after, kinds, options.added_keys_allowed)


if __name__ == "__main__":
    sys.exit(main())
