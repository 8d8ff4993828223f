"""The classes of faults. Each takes a bench, a name and random numbers, and gives back its run."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from esr.runs.journal import read_journal
from tests.faults import command, damage
from tests.faults.harness import Bench, Run

Scenario = Callable[[Bench, str, random.Random], Run]

WRITES = 50
"""About as many lines as the journal of a whole run has."""


def kill_in_time(bench: Bench, name: str, rng: random.Random) -> Run:
    return _hurt(bench, name, rng, signal.SIGKILL)


def sigterm(bench: Bench, name: str, rng: random.Random) -> Run:
    return _hurt(bench, name, rng, signal.SIGTERM)


def sigint(bench: Bench, name: str, rng: random.Random) -> Run:
    return _hurt(bench, name, rng, signal.SIGINT)


def _hurt(bench: Bench, name: str, rng: random.Random, number: signal.Signals) -> Run:
    run = bench.run(name, rng)
    for _ in range(4):
        after = rng.uniform(0.0, bench.seconds)
        run.attempt(hurt=lambda attempt, s=after: attempt.kill_after(s, number))  # type: ignore[misc]
        run.faults += 1
    run.finish()
    return run


def kill_at_call(bench: Bench, name: str, rng: random.Random) -> Run:
    run = bench.run(name, rng)
    for _ in range(4):
        run.attempt(command.kill_at_call(rng.randint(1, bench.calls)))
        run.faults += 1
    run.finish()
    return run


def kill_in_write(bench: Bench, name: str, rng: random.Random) -> Run:
    run = bench.run(name, rng)
    for _ in range(4):
        run.attempt(command.kill_in_write(rng.randint(1, WRITES // 3), rng.random()))
        run.faults += 1
    run.finish()
    return run


def two_at_once(bench: Bench, name: str, rng: random.Random) -> Run:
    run = bench.run(name, rng)
    for _ in range(2):
        run.both(kill=rng.random() < 0.5)
        run.faults += 1
    run.finish()
    return run


def _partly(bench: Bench, name: str, rng: random.Random) -> Run:
    """A run with a journal, killed on its way or complete."""
    run = bench.run(name, rng)
    share = rng.choice((0.5, 0.8, 2.0))
    if share < 1:
        run.attempt(command.kill_in_write(rng.randint(WRITES // 4, WRITES), 1.0))
    else:
        run.attempt()
    while run.journal is None or not run.journal.read_bytes():
        run.attempt()
    return run


def journal_damage(kind: str) -> Scenario:
    def scenario(bench: Bench, name: str, rng: random.Random) -> Run:
        run = _partly(bench, name, rng)
        for _ in range(2):
            path = run.journal
            assert path is not None
            if rng.random() < 0.5:
                shutil.rmtree(run.place.cache, ignore_errors=True)
            whole = path.read_bytes().splitlines(keepends=True)
            touched = damage.JOURNAL[kind](path, rng)
            own = _entries(run, [line for n, line in enumerate(whole) if n in touched])
            rest = _entries(run, [line for n, line in enumerate(whole) if n not in touched])
            survivors = rest - own
            with run.survivors(survivors):
                run.attempt(without=frozenset(own))
            run.faults += 1
        run.finish()
        return run

    return scenario


def _entries(run: Run, lines: list[bytes]) -> set[tuple[str, str]]:
    path = run.place.root / "some.jsonl"
    path.write_bytes(b"".join(lines))
    return {(line.kind, line.key) for line in read_journal(path).lines}


def flipped_run_json(bench: Bench, name: str, rng: random.Random) -> Run:
    run = _partly(bench, name, rng)
    for _ in range(3):
        assert run.journal is not None
        file = run.journal.with_name("run.json")
        if rng.random() < 0.7:
            damage.flip(file, rng)
        else:
            damage.damage_file(file, rng)
        run.attempt()
        run.faults += 1
    run.finish()
    return run


def caches(*, flip: bool) -> Scenario:
    """Damage to thresholds and answers; a fresh run must come to the same results."""

    def scenario(bench: Bench, name: str, rng: random.Random) -> Run:
        run = bench.run(name, rng)
        run.attempt()
        for _ in range(2):
            files = [*run.place.cache.glob("thresholds/*/*.json"), run.place.cache / "judge.sqlite"]
            file = rng.choice(files)
            (damage.flip if flip else damage.damage_file)(file, rng)
            run.faults += 1
            run.finish(("--new",), compare=True)
        return run

    return scenario


def small_files(bench: Bench, name: str, rng: random.Random) -> Run:
    run = bench.run(name, rng)
    for _ in range(3):
        run.attempt(command.largest_file(round(10 ** rng.uniform(2, 5))))
        run.faults += 1
    run.finish()
    return run


@contextmanager
def _disk(path: Path, size: str) -> Iterator[Path]:
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def full_disk(bench: Bench, name: str, rng: random.Random) -> Run:
    """A disk with little room, for results, cache or both; then with enough."""
    with _disk(bench.root / f"{name}-disk", "2m") as disk:
        place = bench.place(name, disk, rng.choice(("results cache", "results", "cache")))
        run = bench.run(name, rng, place)
        for _ in range(3):
            room = round(10 ** rng.uniform(3, 5.3))
            filler = disk / "filler"
            used = sum(f.stat().st_blocks * 512 for f in disk.rglob("*") if f.is_file())
            filler.write_bytes(bytes(max(0, 2**21 - used - room - 8192)))
            run.attempt()
            run.faults += 1
            filler.unlink()
        run.finish()
    return run


def read_only(bench: Bench, name: str, rng: random.Random) -> Run:
    """Results, cache or both on a disk that cannot be written; then it can."""
    with _disk(bench.root / f"{name}-disk", "4m") as disk:
        place = bench.place(name, disk, rng.choice(("results cache", "results", "cache")))
        run = bench.run(name, rng, place)
        for _ in range(2):
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            run.attempt()
            run.faults += 1
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            run.attempt(command.kill_in_write(rng.randint(1, WRITES // 2), 1.0))
        run.finish()
    return run


def clock_jumps(bench: Bench, name: str, rng: random.Random) -> Run:
    run = bench.run(name, rng)
    for shift in rng.sample([-400 * 86400.0, -3600.0, -1.5, 3.2e8, -1.7e9], 3):
        after = rng.uniform(0.2, 1.0) * bench.seconds
        run.attempt(
            command.clock(shift),
            lambda attempt, s=after: attempt.kill_after(s, signal.SIGKILL),  # type: ignore[misc]
        )
        run.faults += 1
    run.finish()
    return run


def judge_faults(kind: str) -> Scenario:
    """30 % of all calls at fault; then the judge is well again."""

    def scenario(bench: Bench, name: str, rng: random.Random) -> Run:
        run = bench.run(name, rng)
        run.plan(share=0.3, kind=kind)
        for _ in range(3):
            run.attempt()
        run.faults += sum(not call["healthy"] for call in run.calls())
        run.finish()
        return run

    return scenario


def rejecting(status: int) -> Scenario:
    """A key or an account that ends with the n-th call; then it is mended."""

    def scenario(bench: Bench, name: str, rng: random.Random) -> Run:
        run = bench.run(name, rng)
        run.plan(dead=status, dead_after=rng.randint(0, 22))
        for _ in range(2):
            if run.attempt() == 0 and any(not call["healthy"] for call in run.calls()):
                run.costs["wrong"] += 1
                run.notes.append("wrong: a judge that rejects ended as complete")
        run.faults += sum(not call["healthy"] for call in run.calls())
        run.finish()
        return run

    return scenario


def spend_limit(bench: Bench, name: str, rng: random.Random) -> Run:
    """``--max-spend`` in steps, half of them with a kill: never more than what is on its way."""
    run = bench.run(name, rng)
    price = (1000 * 0.25 + 100 * 2.0) / 1e6
    limit, kills = 0.0, 0
    for _ in range(4):
        limit += price * rng.randint(1, 5)
        kill = rng.random() < 0.5
        fault = command.kill_in_write(rng.randint(1, WRITES // 3), rng.random()) if kill else None
        run.attempt(fault, extra=("--max-spend", f"{limit:.6f}"))
        kills += kill
        run.faults += 1
        billed = price * sum(call["healthy"] for call in run.calls())
        if billed > limit + (kills + 1) * 4 * price + 1e-9:
            run.costs["wrong"] += 1
            run.notes.append(f"wrong: ${billed:.5f} billed under a limit of ${limit:.5f}")
    run.finish()
    return run


SCENARIOS: dict[str, tuple[Scenario, float]] = {
    "SIGKILL, uniform in time": (kill_in_time, 10),
    "SIGKILL at a random call of esr": (kill_at_call, 14),
    "SIGKILL inside a journal write": (kill_in_write, 10),
    "SIGTERM": (sigterm, 6),
    "SIGINT": (sigint, 6),
    "two processes at once, half with a kill": (two_at_once, 4),
    **{kind: (journal_damage(kind), 8) for kind in damage.JOURNAL},
    "one bit flipped or damaged: run.json": (flipped_run_json, 6),
    "one bit flipped: caches": (caches(flip=True), 8),
    "damaged caches": (caches(flip=False), 6),
    "RLIMIT_FSIZE": (small_files, 5),
    "full disk: results, cache or both": (full_disk, 7),
    "read-only disk: results, cache or both": (read_only, 3),
    "clock jumps, then SIGKILL": (clock_jumps, 3),
    "judge: passing faults, 30 % of calls": (judge_faults("passing"), 2),
    "judge: unforeseen bodies, 30 %": (judge_faults("bodies"), 2),
    "judge: useless answers, 30 %": (judge_faults("answers"), 2),
    "judge: faults of all kinds, 30 %": (judge_faults("all"), 2),
    "judge: 401 from the n-th call": (rejecting(401), 3),
    "judge: 402 from the n-th call": (rejecting(402), 3),
    "--max-spend in steps, half with a kill": (spend_limit, 5),
}
"""Class -> how one scenario goes, and its share of all scenarios."""

NEEDS_MOUNT = ("full disk: results, cache or both", "read-only disk: results, cache or both")
