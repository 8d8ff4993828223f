"""Run folders: ``data/results/<experiment>/<model>/<run id>/``.

The run id is a hash of everything that can change a result, so that the same command finds
its own folder and resumes. What is known of a run stands in ``run.json``, never in a file name.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from esr.errors import SpendLimitError, UserError, cannot_write
from esr.runs import provenance
from esr.runs.journal import Journal
from esr.runs.plain import json_digest
from esr.runs.run_metadata import SCHEMA_VERSION, RunMetadata, RunStatus


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one, never a half."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def run_id(identity: Mapping[str, Any]) -> str:
    """Ten hex digits of the hash of a resolved config."""
    return json_digest(identity, 10)


class RunFolder:
    """One run: ``run.json``, ``journal.jsonl``, ``results.json``, and the lock.

    Use as a context manager. Leaving it normally marks the run complete, an interruption or an
    error marks it so; the folder of a killed run says "running" and is taken up by the next
    process.
    """

    def __init__(self, path: Path, metadata: RunMetadata) -> None:
        self.path = path
        self.metadata = metadata
        self._lock: IO[str] | None = None
        self._journal: Journal | None = None

    @classmethod
    def locate(
        cls,
        root: Path,
        experiment: str,
        model: str,
        identity: Mapping[str, Any],
        *,
        new: bool = False,
    ) -> RunFolder:
        """The folder this identity belongs to; nothing is written yet.

        Args:
            root: the results folder.
            experiment: package name of the experiment.
            model: registry key.
            identity: resolved config; everything that can change a result.
            new: start a fresh folder beside earlier ones of the same identity.
        """
        base, name = root / experiment / model, run_id(identity)
        taken = sorted(
            (p for p in base.glob(f"{name}*") if p.name == name or p.name[len(name)] == "-"),
            key=lambda p: int(p.name.partition("-")[2] or 1),
        )
        if new and taken:
            name = f"{name}-{int(taken[-1].name.partition('-')[2] or 1) + 1}"
        elif taken:
            name = taken[-1].name
        path = base / name
        if (path / "run.json").is_file():
            return cls(path, read_run(path))
        return cls(
            path,
            RunMetadata(
                schema_version=SCHEMA_VERSION,
                experiment=experiment,
                model=model,
                run_id=name,
                identity=dict(identity),
            ),
        )

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
        self._journal = Journal(self.path / "journal.jsonl")
        self.metadata = self.metadata.updated(
            **provenance.collect(),
            started=self.metadata.started or provenance.now(),
            resumed=self.metadata.resumed + 1,
        )
        self._mark("running")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            self._mark("complete")
        elif issubclass(kind, Exception) and not issubclass(kind, SpendLimitError):
            self._mark("failed", error=str(error).splitlines()[0] if str(error) else kind.__name__)
        else:
            self._mark("interrupted")
        self.journal.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def update(self, **changes: Any) -> None:
        """Replace or add keys of ``run.json`` at once."""
        self.metadata = self.metadata.updated(**changes)
        write_json(self.path / "run.json", self.metadata.plain())

    def write_results(self, results: Mapping[str, Any], *, partial: bool = False) -> Path:
        """Write ``results.json`` atomically; a partial one says so."""
        path = self.path / "results.json"
        write_json(path, {**results, "partial": partial})
        return path

    def _mark(self, status: RunStatus, error: str | None = None) -> None:
        self.update(status=status, error=error, ended=provenance.now())

    def _acquire(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            lock.close()
            raise UserError(
                f"run {self.path} is in use by process {owner}",
                "one process per run",
                f"wait for it, stop it (kill {owner}), or start another run with --new",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock


def read_run(path: Path) -> RunMetadata:
    """``run.json`` of a run folder.

    Raises:
        UserError: missing, unreadable, or of a later schema.
    """
    try:
        data = json.loads((path / "run.json").read_text(encoding="utf-8"))
        version = int(data["schema_version"])
        if version <= SCHEMA_VERSION:
            return RunMetadata.model_validate(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a run folder ({type(error).__name__} in run.json)",
            "a folder with run.json, journal.jsonl and results.json",
            f"ls {path}",
        ) from error
    raise UserError(
        f"{path} was written by a newer version (schema {version})",
        f"schema {SCHEMA_VERSION} or older",
        "update this package",
    )


def find_runs(root: Path, experiment: str, model: str = "*") -> list[Path]:
    """Run folders of an experiment, newest start first."""
    folders = [p.parent for p in (root / experiment).glob(f"{model}/*/run.json")]
    return sorted(folders, key=lambda path: read_run(path).started, reverse=True)


def newest_complete(root: Path, experiment: str, model: str) -> Path:
    """The newest complete run of a model.

    Raises:
        UserError: there is none.
    """
    for path in find_runs(root, experiment, model):
        if read_run(path).status == "complete":
            return path
    raise UserError(
        f"no complete run of {experiment} for model {model} in {root}",
        "a run folder or a results file",
        f"python -m {experiment} {model}, or --from-results PATH",
    )
