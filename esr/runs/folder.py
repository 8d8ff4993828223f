"""Run folders: ``data/results/<experiment>/<model>/<run id>/``.

The run id is a hash of everything that can change a result, so that the same command finds
its own folder and resumes. What is known of a run stands in ``run.json``, never in a file name.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

from esr.errors import StopError, StorageError, UserError, cannot_write
from esr.runs import provenance
from esr.runs.journal import Check, Journal
from esr.runs.plain import file_digest, json_digest, json_text
from esr.runs.run_metadata import (
    SCHEMA_VERSION,
    ChecksumError,
    RunMetadata,
    RunStatus,
    without_checksum,
)


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one, never a half.

    A file that holds the same already is left alone.

    Raises:
        StorageError: it cannot be written.
    """
    content = _content(data)
    if _holds(path, content):
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StorageError(path, error) from error


def _content(data: Any) -> bytes:
    return (json_text(data, indent=1) + "\n").encode()


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except OSError:
        return False


@cache
def warn(line: str) -> None:
    """Say, once, what is not as it should be and does not stop the command."""
    print(f"warning: {line}", file=sys.stderr)


def run_id(identity: Mapping[str, Any]) -> str:
    """Ten hex digits of the hash of a resolved config."""
    return json_digest(identity, 10)


class RunFolder:
    """One run: ``run.json``, ``journal.jsonl``, ``results.json``, and the lock.

    Use as a context manager. Leaving it normally marks the run complete, an interruption or an
    error marks it so; the folder of a killed run says "running" and is taken up by the next
    process. A run that is complete stays as it is, to the byte, until there is something new to
    write.

    Args:
        path: of the folder.
        metadata: of ``run.json``.
        check: of journal entries (:class:`esr.runs.journal.Journal`).
    """

    def __init__(
        self, path: Path, metadata: RunMetadata, check: Check = lambda _kind, _value: True
    ) -> None:
        self.path = path
        self.metadata = metadata
        self._check = check
        self._lock: IO[bytes] | None = None
        self._journal: Journal | None = None
        self._opened = ""
        self._working = False
        self._rebuilt = False

    @classmethod
    def locate(
        cls,
        root: Path,
        experiment: str,
        model: str,
        identity: Mapping[str, Any],
        *,
        new: bool = False,
        check: Check = lambda _kind, _value: True,
    ) -> RunFolder:
        """The folder this identity belongs to; nothing is written yet.

        Args:
            root: the results folder.
            experiment: package name of the experiment.
            model: registry key.
            identity: resolved config; everything that can change a result.
            new: start a fresh folder beside earlier ones of the same identity.
            check: of journal entries.

        Raises:
            UserError: the folder was written by a newer version.
        """
        base, name = root / experiment / model, run_id(identity)
        numbered = re.compile(rf"{name}(?:-(\d+))?")
        names = [path.name for path in base.glob(f"{name}*")]
        taken = {int(match[1] or 1): match[0] for n in names if (match := numbered.fullmatch(n))}
        if new and taken:
            name = f"{name}-{max(taken) + 1}"
        elif taken:
            name = taken[max(taken)]
        path = base / name
        fresh = RunMetadata(
            schema_version=SCHEMA_VERSION,
            experiment=experiment,
            model=model,
            run_id=name,
            identity=dict(identity),
        )
        if not (path / "run.json").is_file():
            return cls(path, fresh, check)
        try:
            return cls(path, read_run(path), check)
        except DamagedRunError as error:
            warn(f"{error.problem}: it is written anew, and kept as run.json.damaged")
            folder = cls(path, fresh, check)
            folder._rebuilt = True
            return folder

    @property
    def status(self) -> str:
        """ "" for a run that has not started."""
        return self.metadata.status

    @property
    def journal(self) -> Journal:
        """The journal of an entered run."""
        if self._journal is None:
            raise RuntimeError("the run folder is not open")
        return self._journal

    def __enter__(self) -> RunFolder:
        self._acquire()
        try:
            self._open()
        except BaseException:
            self._release()
            raise
        return self

    def _open(self) -> None:
        self._opened = provenance.now()
        self._journal = Journal(self.path / "journal.jsonl", self._check, self._work)
        if self._journal.damage:
            warn(self._journal.damage)
        if self._rebuilt:
            damaged = self.path / "run.json"
            try:
                damaged.replace(self.path / "run.json.damaged")
            except OSError as error:
                raise StorageError(damaged, error) from error
        if self.status != "complete":
            self._save(started=self.metadata.started or self._opened, **_state("running"))

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            self._mark(kind, str(error))
        except StorageError:
            # Why the run stopped is what matters; "running" is taken up by the next process.
            if kind is None:
                raise
        finally:
            self._release()

    def update(self, **changes: Any) -> None:
        """Replace or add keys of ``run.json`` at once.

        Raises:
            StorageError: it cannot be written.
        """
        changed = self.metadata.updated(**changes)
        if _content(changed.plain()) != _content(self.metadata.plain()):
            self._work()
            self._save(**changes)

    def write_results(self, results: Mapping[str, Any], *, partial: bool = False) -> Path:
        """Write ``results.json`` atomically; a partial one says so.

        Raises:
            StorageError: it cannot be written.
        """
        path, data = self.path / "results.json", {**results, "partial": partial}
        if not _holds(path, _content(data)):
            self._work()
            write_json(path, data)
        return path

    def _work(self) -> None:
        """Before the first thing that this start adds: who adds it."""
        if self._working:
            return
        self._working = True
        start = provenance.collect()
        starts = [*self.metadata.starts(), {"time": self._opened, **start}]
        self._save(**start, resumed=len(starts) - 1, provenance=starts, **_state("running"))

    def _mark(self, kind: type[BaseException] | None, message: str) -> None:
        """Say how the run ended, unless it was complete before and nothing was added."""
        if self.status == "complete":
            return
        line = message.splitlines()[0] if message else None
        if kind is None:
            self._work()
            results = self.path / "results.json"
            digest = file_digest(results) if results.is_file() else ""
            self._save(**_state("complete"), results_digest=digest)
        elif issubclass(kind, StopError):
            self._save(**_state("interrupted", line))
        elif issubclass(kind, Exception):
            self._save(**_state("failed", line or kind.__name__))
        else:
            self._save(**_state("interrupted"))

    def _save(self, **changes: Any) -> None:
        self.metadata = self.metadata.updated(**changes)
        write_json(self.path / "run.json", self.metadata.signed())

    def _release(self) -> None:
        if self._journal is not None:
            self._journal.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _acquire(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+b", buffering=0)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            owner = lock.read().decode(errors="replace").strip() or "unknown"
            lock.close()
            raise UserError(
                f"run {self.path} is in use by process {owner}",
                "one process per run",
                f"wait for it, stop it (kill {owner}), or start another run with --new",
            ) from error
        with contextlib.suppress(OSError):  # The lock holds on a full disk, too.
            lock.truncate(0)
            lock.write(str(os.getpid()).encode())
        self._lock = lock


def _state(status: RunStatus, error: str | None = None) -> dict[str, Any]:
    return {"status": status, "error": error, "ended": provenance.now()}


class DamagedRunError(UserError):
    """``run.json`` does not hold what was written."""


def read_run(path: Path) -> RunMetadata:
    """``run.json`` of a run folder.

    Raises:
        DamagedRunError: missing, unreadable, or not what was written.
        UserError: of a later schema.
    """
    try:
        data = without_checksum(json.loads((path / "run.json").read_text(encoding="utf-8")))
        version = int(data["schema_version"])
        if version <= SCHEMA_VERSION:
            return RunMetadata.model_validate(data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = "checksum" if isinstance(error, ChecksumError) else type(error).__name__
        raise DamagedRunError(
            f"{path} is not a run folder ({reason} in run.json)",
            "a folder with run.json, journal.jsonl and results.json",
            f"ls {path}",
        ) from error
    raise UserError(
        f"{path} was written by a newer version (schema {version})",
        f"schema {SCHEMA_VERSION} or older",
        "update this package",
    )


def recorded_runs(
    root: Path, experiment: str = "*", model: str = "*"
) -> list[tuple[Path, RunMetadata]]:
    """Run folders with their ``run.json``, newest start first.

    One that cannot be read, and one under another name than its own, such as a copy, is named on
    the error stream and left out.
    """
    runs = []
    for file in sorted(root.glob(f"{experiment}/{model}/*/run.json")):
        folder = file.parent
        try:
            metadata = read_run(folder)
        except UserError as error:
            warn(f"{error.problem}: left out")
            continue
        if metadata.run_id in ("", folder.name):
            runs.append((folder, metadata))
        else:
            warn(f"{folder} is a copy of run {metadata.run_id}: left out")
    return sorted(runs, key=lambda run: run[1].started, reverse=True)


def find_runs(root: Path, experiment: str, model: str = "*") -> list[Path]:
    """Run folders of an experiment, as :func:`recorded_runs` lists them."""
    return [path for path, _ in recorded_runs(root, experiment, model)]
