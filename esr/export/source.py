"""What is exported: run folders, trees of them, and results files of the authors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from esr.errors import UserError
from esr.models import REGISTRY, ModelSpec
from esr.runs.folder import read_run, warn
from esr.runs.inspection import run_folders
from esr.runs.plain import file_digest
from esr.runs.results import Results, Trial, read_results
from esr.runs.run_metadata import RunMetadata

CROSS_JUDGE = "experiment_07_cross_judge"
ORIGINAL = "original"
"""Arm of experiment 7 that holds the verdicts of the run it re-grades; others are judges."""


@dataclass(frozen=True)
class Source:
    """One run with its results.

    Attributes:
        name: run id, or the digest of a results file.
        results: its results.
        metadata: of a run folder.
        path: where it was read, for messages alone.
    """

    name: str
    results: Results
    metadata: RunMetadata | None
    path: Path

    @property
    def model(self) -> str:
        """Registry key, or the last part of the name that the file gives."""
        config = self.results.experiment_config
        by_id = {spec.hf_id: spec.key for spec in REGISTRY.values()}
        given = config.model or (self.metadata.model if self.metadata else "")
        hf_id = config.model_name or ""
        return given or by_id.get(hf_id) or hf_id.rstrip("/").rpartition("/")[2]

    @property
    def spec(self) -> ModelSpec | None:
        """Entry of the registry; None for a model of the user's own."""
        return REGISTRY.get(self.model)

    def judge(self, trial: Trial) -> str:
        """Who judged a trial."""
        re_graded = self.metadata is not None and self.metadata.experiment == CROSS_JUDGE
        if re_graded and trial.arm not in (None, ORIGINAL):
            return str(trial.arm)
        return self.results.experiment_config.judge_name


def read(path: Path) -> list[Source]:
    """A results file, a run folder, or all runs below a folder that have results.

    Raises:
        UserError: nothing is there, or cannot be read.
    """
    if path.is_file():
        return [Source(file_digest(path, 16), read_results(path), None, path)]
    sources = []
    for folder in run_folders(path):
        if (folder / "results.json").is_file():
            run = read_run(folder)
            sources.append(Source(run.run_id, read_results(folder), run, folder))
        else:
            warn(f"{folder} has no results.json: left out")
    if not sources:
        raise UserError(f"no results in {path}", "a run with results.json", f"ls {path}")
    return sources


def read_all(paths: Iterable[str]) -> list[Source]:
    """Every run named, each once.

    Raises:
        UserError: see :func:`read`; or nothing is named.
    """
    sources = [source for path in paths for source in read(Path(path))]
    unique = {source.path.resolve(): source for source in sources}
    if not unique:
        raise UserError("no run is named", "run folders or results files", "ls data/results/*/*")
    return list(unique.values())
