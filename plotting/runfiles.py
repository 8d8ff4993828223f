"""Every run of a results folder, and every results file of the authors, for the whole report."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from esr.analysis.outcomes import Outcome, outcomes_from_results
from esr.errors import UserError
from esr.models import REGISTRY
from esr.runs.folder import read_run
from esr.runs.paths import RESULTS
from esr.runs.plain import file_digest
from esr.runs.results import Trial, iter_trials, parse_results, read_results, results_file

PACKAGES = {
    1: "experiment_01_esr",
    2: "experiment_02_multi_boost",
    3: "experiment_03_off_topic_detectors",
    4: "experiment_04_finetuning",
    5: "experiment_05_prompt_variants",
    6: "experiment_06_sequential_activations",
    7: "experiment_07_cross_judge",
    8: "experiment_08_no_steering_baseline",
    9: "experiment_09_activation_stats",
    10: "experiment_10_random_latent_control",
}
"""Number of an experiment, as in the paper's README, and its package."""


@dataclass(frozen=True, eq=False)
class RunFile:
    """One run folder, or one results file of the authors.

    Attributes:
        path: folder or file.
        experiment: number in the paper; 0 where the folder belongs to none of the ten.
        facts: ``run.json``; empty for a file of the authors.
        data: ``results.json``; empty where the run has none.
        digest: SHA-256 of the results, first 16 hex digits; empty where there are none.
    """

    path: Path
    experiment: int
    facts: Mapping[str, Any]
    data: Mapping[str, Any] = field(repr=False)
    digest: str = ""

    @property
    def theirs(self) -> bool:
        """Whether this is a file of the authors, without a run folder."""
        return not self.facts

    @property
    def config(self) -> Mapping[str, Any]:
        """``experiment_config``."""
        found: Mapping[str, Any] = self.data.get("experiment_config") or {}
        return found

    @property
    def model(self) -> str:
        """Registry key; the name in the file where the model is not registered."""
        named = self.config.get("model") or self.facts.get("model")
        if named:
            return str(named)
        hf_id = str(self.config.get("model_name") or self.path.stem)
        return {spec.hf_id: spec.key for spec in REGISTRY.values()}.get(hf_id, hf_id)

    @property
    def title(self) -> str:
        """Name of the model for readers."""
        known = REGISTRY.get(self.model)
        named = self.config.get("model_title") or self.facts.get("title")
        return str(named or (known.title if known else self.model.rpartition("/")[2]))

    @property
    def organism(self) -> bool:
        """Whether the model is a trained demonstration organism."""
        known = REGISTRY.get(self.model)
        recorded = self.config.get("organism", self.facts.get("organism"))
        return bool(known.organism if recorded is None and known else recorded)

    @property
    def judge(self) -> str:
        """Id of the judge; empty where it is not recorded."""
        context = (self.facts.get("identity") or {}).get("context") or {}
        in_context = (context.get("judge") or {}).get("id")
        named = self.config.get("judge_id") or self.config.get("judge_model_name") or in_context
        return str(named or "")

    @property
    def status(self) -> str:
        """Of the run; "complete" for a file of the authors."""
        status = "complete" if self.theirs else str(self.facts.get("status", "unknown"))
        return "partial" if status == "complete" and self.data.get("partial") else status

    @property
    def run_id(self) -> str:
        """Name of the run among those of its experiment and model."""
        return str(self.facts.get("run_id") or self.path.stem)

    @property
    def key(self) -> str:
        """Names the run in a page and in file names: lower-case letters, digits and hyphens."""
        parts = f"{self.experiment}-{self.model}-{self.run_id}".lower()
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in parts)

    @property
    def started(self) -> str:
        """UTC time of the first start; empty where it is not recorded."""
        return str(self.facts.get("started") or "")

    @property
    def seed(self) -> int:
        """Run seed, from which bootstraps derive theirs; 0 where none is recorded."""
        return int(self.config.get("seed") or 0)

    @property
    def family(self) -> str:
        """The same for a run and the runs that replay its trials."""
        parent = self.facts.get("parent") or {}
        own = self.digest if self.theirs else self.run_id
        return str(parent.get("run_id") or parent.get("digest") or own)

    @cached_property
    def arms(self) -> dict[str, list[Outcome]]:
        """Outcomes of each arm, in the order of the file; empty for runs without judged trials."""
        if not self.data:
            return {}
        results = parse_results(self.data)
        names = {arm_of(self, trial): None for trial in iter_trials(results) if trial.judged}
        if self.theirs:
            return {name: outcomes_from_results(results) for name in names}
        return {name: outcomes_from_results(results, name) for name in names}


def arm_of(run: RunFile, trial: Trial) -> str:
    """Name of the condition of a trial; for the authors' files, after their schema."""
    if trial.arm:
        return trial.arm
    if run.experiment == 5:
        return str(run.config.get("prompt_variant_id"))
    names = {2: f"boost {trial.threshold}", 3: "ablation", 8: "no-steering"}
    return names.get(run.experiment, "steered")


def _experiment_of_theirs(data: Mapping[str, Any]) -> int:
    """Number of the experiment that wrote a file of the authors, from the keys of its schema."""
    config = data.get("experiment_config") or {}
    if config.get("prompt_variant_id"):
        return 5
    if data.get("boost_levels"):
        return 2
    if data.get("ablated_latents") or config.get("ablated_latents"):
        return 3
    boosts = [entry["threshold"] for entry in data["results_by_feature"]]
    return 8 if boosts and not any(boosts) else 1


def load(path: Path) -> RunFile:
    """One run folder, with or without results, or one results file.

    Raises:
        UserError: it is neither.
    """
    if path.is_dir():
        facts = read_run(path).plain()
        numbers = {package: number for number, package in PACKAGES.items()}
        experiment = numbers.get(str(facts.get("experiment") or path.parent.parent.name), 0)
        file = results_file(path)
        if not file.is_file():
            return RunFile(path, experiment, facts, {})
        data = read_results(path).raw
    else:
        file, facts = path, {}
        data = read_results(path).raw
        experiment = _experiment_of_theirs(data)
    digest = file_digest(file, 16)
    return RunFile(path, experiment, facts, data, digest)


def find(where: Iterable[Path] = (), model: str = "", judge: str = "") -> list[RunFile]:
    """Runs below results folders, run folders and results files, newest first.

    A run folder that cannot be read is reported on the error stream and left out.

    Args:
        where: ``data/results`` where empty.
        model: the one model wanted, by key.
        judge: the one judge wanted, by id; "haiku" also matches the dated id.

    Raises:
        UserError: a path that does not exist, or is named and cannot be read.
    """
    found: list[RunFile] = []
    for path in list(where) or [RESULTS]:
        if path.is_file() or (path / "run.json").is_file():
            found.append(load(path))
        elif path.is_dir() or path == RESULTS:
            found += _below(path)
        else:
            raise UserError(
                f"no such results: {path}",
                "a results folder, a run folder or a results file",
                f"ls {path.parent}",
            )
    kept = [
        run for run in found if model in ("", run.model) and (not judge or _same_judge(judge, run))
    ]
    return sorted(kept, key=lambda run: run.started, reverse=True)


def _same_judge(judge: str, run: RunFile) -> bool:
    return run.judge == judge or f"-{judge}-" in run.judge


def _below(root: Path) -> list[RunFile]:
    found = []
    for file in sorted(root.glob("*/*/*/run.json")):
        try:
            found.append(load(file.parent))
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    return found


@dataclass(frozen=True)
class ArmOfRun:
    """One condition of one run."""

    run: RunFile
    name: str
    outcomes: Sequence[Outcome] = field(repr=False)


def newest_arms(runs: Sequence[RunFile]) -> list[ArmOfRun]:
    """The newest complete run of each arm of an experiment, model, prompt set and pairing.

    Args:
        runs: newest first.
    """
    found: dict[tuple[object, ...], ArmOfRun] = {}
    for run in runs:
        if run.status == "complete":
            for name, outcomes in run.arms.items():
                settings = (run.config.get("prompt_set"), run.config.get("pairing"))
                where = (run.experiment, run.model, *settings, name)
                found.setdefault(where, ArmOfRun(run, name, outcomes))
    return list(found.values())
