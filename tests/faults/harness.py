"""What a fault costs: lost, repeated, paid twice, wrong, stuck. Counted after every attempt."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.runs.folder import read_run
from esr.runs.journal import read_journal
from esr.runs.paths import REPOSITORY
from tests.faults import command
from tests.faults.command import Attempt, Fault, Place
from tests.faults.judge import RESPONSE

ANSWERED = ("graded", "no_attempts")
TRIES = 4
"""Attempts without a fault after which a run that is not complete counts as stuck."""

COLUMNS = ("lost", "repeated", "paid twice", "wrong", "stuck", "traceback", "in flight")


@dataclass
class Snapshot:
    """What is on disk before an attempt.

    Attributes:
        entries: (kind, key) of all readable journal lines.
        generated: keys of generations.
        answered: questions whose answer is in the journal or in the cache.
    """

    entries: set[tuple[str, str]] = field(default_factory=set)
    generated: set[str] = field(default_factory=set)
    answered: set[str] = field(default_factory=set)


def snapshot(place: Place, without: frozenset[tuple[str, str]] = frozenset()) -> Snapshot:
    """What is on disk, but for some entries of the journal."""
    found = Snapshot()
    for path in place.results.glob("*/*/*/journal.jsonl"):
        lines = read_journal(path).lines
        texts = {line.key: line.value["text"] for line in lines if line.kind == "generation"}
        for line in lines:
            if (line.kind, line.key) in without:
                continue
            found.entries.add((line.kind, line.key))
            if line.kind == "generation":
                found.generated.add(line.key)
            if line.kind == "verdict" and line.value["status"] in ANSWERED:
                found.answered |= questions(texts.get(line.key, ""))
    found.answered |= cached(place.cache / "judge.sqlite")
    return found


def questions(text: str) -> set[str]:
    """Names of the responses in a text."""
    return {f"{seed}/{boost}" for seed, boost in RESPONSE.findall(text)}


def cached(path: Path) -> set[str]:
    """Questions answered in the cache; read from a copy."""
    copy = path.with_name("copy.sqlite")
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.is_file():
            try:
                shutil.copy(source, copy.with_name(copy.name + suffix))
            except OSError:
                return set()
    try:
        db = sqlite3.connect(copy)
        try:
            rows = db.execute("SELECT value FROM answers").fetchall()
        finally:
            db.close()
        # An entry that is itself damaged is on disk no more.
        rows = [(text,) for (text,) in rows if _is_whole(str(text))]
        # A completion that cannot be read as a verdict is no answer, and may be asked for again.
        whole = (str(text) for (text,) in rows if "score" in str(text) and "</json>" in str(text))
        return {question for text in whole for question in questions(text)}
    except sqlite3.Error:
        return set()
    finally:
        for suffix in ("", "-wal", "-shm"):
            copy.with_name(copy.name + suffix).unlink(missing_ok=True)


def _is_whole(text: str) -> bool:
    crc, _, rest = text.partition(" ")
    return crc == f"{zlib.crc32(rest.encode()):08x}"


class Run:
    """One run, from its first attempt to its end, and what its faults cost."""

    def __init__(self, place: Place, reference: bytes, plans: Path, rng: random.Random) -> None:
        self.place = place
        self.reference = reference
        self.plans = plans
        self.rng = rng
        self.costs: Counter[str] = Counter()
        self.faults = 0
        self.notes: list[str] = []

    @property
    def journal(self) -> Path | None:
        """The journal of the newest folder, once there is one."""
        paths = sorted(self.place.results.glob("*/*/*/journal.jsonl"))
        return paths[-1] if paths else None

    def plan(self, **plan: Any) -> None:
        """What the judge does to this run from now on; healthy where nothing is given."""
        since = len(self.calls())
        text = json.dumps({**plan, "since": since, "seed": self.rng.random()})
        (self.plans / f"{self.place.name}.json").write_text(text)

    def calls(self) -> list[dict[str, Any]]:
        """Every call of this run that the judge has answered."""
        log = self.plans / f"{self.place.name}.calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [json.loads(line) for line in lines]

    def generations(self) -> list[str]:
        log = self.place.root / "engine.log"
        return log.read_text().split() if log.exists() else []

    @contextmanager
    def counting(
        self, without: frozenset[tuple[str, str]] = frozenset(), *, fresh: bool = False
    ) -> Iterator[None]:
        """Count what the attempts inside cost; a fresh run builds on the cache alone."""
        before, calls, made = snapshot(self.place, without), self.calls(), self.generations()
        if fresh:
            before = Snapshot(answered=cached(self.place.cache / "judge.sqlite"))
        yield
        after = snapshot(self.place)
        self._add("lost", before.entries - after.entries)
        keys = self.generations()[len(made) :]
        self._add("repeated", [key for key in keys if key in before.generated])
        asked = {call["question"] for call in calls if call["healthy"]}
        new = [call["question"] for call in self.calls()[len(calls) :] if call["healthy"]]
        self._add("paid twice", [q for q in new if q in before.answered])
        self.costs["in flight"] += sum(q in asked - before.answered - {"other"} for q in new)

    @contextmanager
    def survivors(self, entries: set[tuple[str, str]]) -> Iterator[None]:
        """Entries of undamaged lines, which must be there after the attempt inside."""
        yield
        self._add("lost", entries - snapshot(self.place).entries)

    def _add(self, column: str, items: Any) -> None:
        if items:
            self.costs[column] += len(items)
            self.notes.append(f"{column}: {sorted(items)[:3]}")

    def attempt(
        self,
        fault: Fault | None = None,
        hurt: Callable[[Attempt], object] = lambda _: None,
        extra: tuple[str, ...] = (),
        without: frozenset[tuple[str, str]] = frozenset(),
    ) -> int:
        """One command; the exit status. A traceback, whenever it comes, is counted."""
        with self.counting(without, fresh="--new" in extra):
            started = command.start(self.place, fault, extra)
            hurt(started)
            status = started.wait()
        self._look(started)
        return status

    def _look(self, attempt: Attempt) -> None:
        said = attempt.output.read_text(errors="replace")
        if "Traceback (most recent call last)" in said or attempt.ended in (99, 124):
            self.costs["traceback"] += 1
            self.notes.append(f"exit {attempt.ended}: {said[-1500:]}")

    def both(self, kill: bool) -> None:
        """Two commands at once; one of them may be killed."""
        with self.counting():
            first = command.start(self.place)
            second = command.start(self.place)
            if kill:
                first.kill_after(self.rng.uniform(0.05, 0.8), command.signal.SIGKILL)
            for attempt in (first, second):
                attempt.wait()
        for attempt in (first, second):
            self._look(attempt)

    def finish(self, extra: tuple[str, ...] = (), *, compare: bool = True) -> None:
        """Repeat the command without faults until it is done, and compare its results."""
        self.plan()
        for _ in range(TRIES):
            if self.attempt(extra=extra) == 0 and self._complete():
                break
            extra = ()
        else:
            self.costs["stuck"] += 1
            self.notes.append("stuck: " + self._last_output())
            return
        if compare and self.results() != self.reference:
            self.costs["wrong"] += 1
            self.notes.append("wrong: results differ")

    def results(self) -> bytes:
        """``results.json`` of the newest folder, under the run id of the reference."""
        assert self.journal is not None
        data = (self.journal.parent / "results.json").read_bytes()
        name = self.journal.parent.name
        return data.replace(f'"run_id": "{name}"'.encode(), f'"run_id": "{name[:10]}"'.encode())

    def _complete(self) -> bool:
        try:
            return self.journal is not None and read_run(self.journal.parent).status == "complete"
        except UserError:
            return False

    def _last_output(self) -> str:
        files = sorted(self.place.root.glob("*.out"), key=lambda path: int(path.stem))
        return files[-1].read_text(errors="replace")[-800:] if files else ""


@dataclass
class Bench:
    """A judge, a reference and a folder for runs.

    Attributes:
        root: everything lies here.
        url: of the judge.
        reference: ``results.json`` of an uninterrupted run.
        seconds: that it took.
        calls: of functions of the package in it.
    """

    root: Path
    url: str
    reference: bytes = b""
    seconds: float = 0.0
    calls: int = 20_000

    def place(self, name: str, disk: Path | None = None, on_disk: str = "") -> Place:
        """A fresh place; ``on_disk`` names what lies on another disk."""
        root = self.root / name
        root.mkdir(parents=True)
        parts = ("results", "cache")
        where = {part: disk if disk and part in on_disk else root for part in parts}
        return Place(
            root,
            name,
            self.url,
            self.root / "prompts.txt",
            where["results"] / "results",
            where["cache"] / "cache",
        )

    def run(self, name: str, rng: random.Random, place: Place | None = None) -> Run:
        return Run(place or self.place(name), self.reference, self.root, rng)


@contextmanager
def bench(root: Path) -> Iterator[Bench]:
    """Start the judge, put the stand-ins in place, and make the reference."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "prompts.txt").write_text("\n".join(command.PROMPTS) + "\n")
    with (root / "judge.log").open("w") as log:
        arguments = [sys.executable, "-m", "tests.faults.judge", str(root)]
        server = subprocess.Popen(arguments, stderr=log, cwd=REPOSITORY)
    try:
        until = time.monotonic() + 60
        while not (root / "url").exists():
            assert server.poll() is None, "the judge did not start"
            assert time.monotonic() < until, "the judge did not start in time"
            time.sleep(0.02)
        command.prepare()
        made = Bench(root, (root / "url").read_text())
        command.warm_up(made.place("warm"))
        for name in ("first", "reference"):
            run = made.run(name, random.Random(0))
            began = time.monotonic()
            status = run.attempt()
            assert status == 0, run._last_output()
            made = replace(made, reference=run.results(), seconds=time.monotonic() - began)
        yield made
    finally:
        server.kill()
        server.wait()
