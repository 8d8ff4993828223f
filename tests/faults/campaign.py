"""Many faults of all classes, shared among processes, and the table of what they cost."""

from __future__ import annotations

import json
import os
import random
import shutil
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.harness import COLUMNS, Bench, bench
from tests.faults.scenarios import NEEDS_MOUNT, SCENARIOS


@dataclass
class Row:
    """What the faults of one class came to."""

    scenarios: int = 0
    faults: int = 0
    costs: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def campaign(
    faults: int, seed: int, workers: int, root: Path, classes: Sequence[str] = ()
) -> dict[str, Row]:
    """Run scenarios until at least so many faults have been injected.

    Args:
        faults: how many, at least.
        seed: the same seed draws the same faults; moments in time vary with the machine.
        workers: processes.
        root: folder for runs; those that cost something stay there.
        classes: of the faults; all that can be injected here where left out.
    """
    names = [n for n in classes or SCENARIOS if n not in NEEDS_MOUNT or can_mount()]
    with bench(root) as made:
        children = [_worker(made, names, faults, seed, w, workers) for w in range(workers)]
        for child in children:
            os.waitpid(child, 0)
    rows = {name: Row() for name in names}
    for log in sorted(root.glob("worker-*.jsonl")):
        for line in map(json.loads, log.read_text().splitlines()):
            row = rows[line["class"]]
            row.scenarios += 1
            row.faults += line["faults"]
            row.costs.update(line["costs"])
            row.notes += [f"{line['name']}: {note}" for note in line["notes"]]
    return rows


def can_mount() -> bool:
    """Whether small disks can be made here, which takes root."""
    return os.geteuid() == 0 and Path("/proc/filesystems").read_text().count("tmpfs") > 0


def _worker(made: Bench, names: list[str], faults: int, seed: int, number: int, of: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        _work(made, names, faults / of, seed, number, of)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _work(made: Bench, names: list[str], faults: float, seed: int, number: int, of: int) -> None:
    rng = random.Random(f"{seed}/{number}")
    weights = [SCENARIOS[name][1] for name in names]
    injected = scenario = 0
    with (made.root / f"worker-{number}.jsonl").open("w", buffering=1) as log:
        while injected < faults or scenario * of + number < len(names):
            # Each class once first, so that a short run has them all.
            turn = scenario * of + number
            kind = names[turn] if turn < len(names) else rng.choices(names, weights)[0]
            name = f"w{number}-{scenario}"
            run = SCENARIOS[kind][0](made, name, random.Random(f"{seed}/{name}"))
            costs = {column: run.costs[column] for column in COLUMNS}
            line = {"class": kind, "name": name, "faults": run.faults, "costs": costs}
            log.write(json.dumps({**line, "notes": run.notes}) + "\n")
            if not run.notes:
                shutil.rmtree(run.place.root, ignore_errors=True)
                for file in made.root.glob(f"{name}[-.]*"):
                    shutil.rmtree(file) if file.is_dir() else file.unlink()
            injected += run.faults
            scenario += 1


def table(rows: dict[str, Row]) -> str:
    """Markdown: a line per class, and the sum."""
    lines = [
        f"| fault | scenarios | faults | {' | '.join(COLUMNS)} |",
        "|---|" + "---|" * (2 + len(COLUMNS)),
    ]
    total = Row()
    for name, row in rows.items():
        lines.append(_line(name, row))
        total.scenarios += row.scenarios
        total.faults += row.faults
        total.costs.update(row.costs)
    return "\n".join([*lines, _line("**all**", total)])


def _line(name: str, row: Row) -> str:
    counts = [row.scenarios, row.faults, *(row.costs[column] for column in COLUMNS)]
    return f"| {name} | {' | '.join(f'{count:,}' for count in counts)} |"
