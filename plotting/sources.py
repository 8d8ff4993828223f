"""What figures, tables and the page are made from: run folders, and results files of the authors.

Which of them are shown is decided in :mod:`plotting.selection`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from esr.analysis.outcomes import Outcome, outcome_of
from esr.errors import UserError
from esr.models import REGISTRY
from esr.runs.folder import read_run, warn
from esr.runs.plain import file_digest
from esr.runs.results import Results, Trial, iter_trials, read_results, results_file
from esr.runs.run_metadata import RunMetadata

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
    11: "experiment_11_resistance_controls",
    12: "experiment_12_steering_operators",
    13: "experiment_13_pairing_fault",
}
"""Number of an experiment and its package; 1 to 10 are the paper's."""

NUMBERS = {package: number for number, package in PACKAGES.items()}

DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What it raises to use a file in which a value is missing or of another type."""

COMPARED = {
    "judge_id": "judge",
    "rubric_hash": "rubric",
    "prompt_digest": "prompts",
    "profile": "profile",
    "latent_filter": "latent filter",
    "n_trials": "trials per latent",
    "engine": "engine",
    "pairing": "pairing",
    "seed": "seed",
}
"""Settings that should agree between the runs of one figure: key in a file, name in a note."""


@dataclass(frozen=True, eq=False)
class Source:
    """One run, or one results file of the authors.

    Attributes:
        title: name of the model for readers.
        model: registry key; the name in the file where the model is not registered.
        path: run folder or results file.
        organism: whether the model is a trained demonstration organism.
        outcomes: of all its trials.
        settings: ``experiment_config``, as far as it is recorded.
        status: of the run; "complete" for a file of the authors.
        data: the results as plain JSON; empty where the run has none.
        experiment: number in the paper; 0 where the folder belongs to none.
        metadata: ``run.json``; None for a file of the authors.
        results: the results, typed; None where the run has none.
        digest: SHA-256 of the results, first 16 hex digits; empty where there are none.
        stands: whether figures and numbers may be made of it: not where it has settings that are
            not the default, unless it is named by its path.
    """

    title: str
    model: str
    path: Path
    organism: bool
    outcomes: Sequence[Outcome] = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    status: str = "complete"
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    experiment: int = 0
    metadata: RunMetadata | None = field(default=None, repr=False)
    results: Results | None = field(default=None, repr=False)
    digest: str = ""
    stands: bool = True

    @property
    def seed(self) -> int:
        """The run seed, from which bootstraps derive theirs; 0 where none is recorded."""
        return int(self.settings.get("seed") or 0)

    @property
    def judge(self) -> str:
        """Id of the judge; empty where it is not recorded."""
        context = self.metadata.context if self.metadata else {}
        return str(self.settings.get("judge_id") or (context.get("judge") or {}).get("id") or "")

    @property
    def run_id(self) -> str:
        """Name of the run among those of its experiment and model."""
        return (self.metadata.run_id if self.metadata else "") or self.path.stem

    @property
    def package(self) -> str:
        """Package of the experiment, or its folder among the results."""
        if self.metadata is None:
            return PACKAGES.get(self.experiment, "")
        return package_of(self.path, self.metadata)

    @property
    def key(self) -> str:
        """Names the run in a page and in file names: lower-case letters, digits and hyphens."""
        parts = f"{self.experiment}-{self.model}-{self.run_id}".lower()
        return "".join(c if c.isascii() and c.isalnum() else "-" for c in parts)

    @property
    def started(self) -> str:
        """UTC time of the first start; empty where it is not recorded."""
        return self.metadata.started if self.metadata else ""

    @property
    def family(self) -> str:
        """The same for a run and the runs that replay its trials."""
        parent = self.metadata.parent if self.metadata else None
        own = self.run_id if self.metadata else self.digest
        return (parent.run_id or parent.digest if parent else "") or own

    @property
    def judged_trials(self) -> list[Trial]:
        """Trials that were meant for a judge, in the order of the file."""
        return [t for t in iter_trials(self.results) if t.judged] if self.results else []

    @cached_property
    def arms(self) -> dict[str, list[Outcome]]:
        """Outcomes of each arm, in the order of the file; empty for runs without judged trials."""
        arms: dict[str, list[Outcome]] = {arm_of(self, t): [] for t in self.judged_trials}
        for trial in iter_trials(self.results) if self.results else ():
            if (arm := arm_of(self, trial)) in arms:
                arms[arm].append(outcome_of(trial))
        return arms


def arm_of(source: Source, trial: Trial) -> str:
    """Name of the condition of a trial; for the authors' files, after their schema."""
    if trial.arm:
        return trial.arm
    if source.experiment == 5:
        return str(source.settings.get("prompt_variant_id"))
    names = {2: f"boost {trial.threshold}", 3: "ablation", 8: "no-steering"}
    return names.get(source.experiment, "steered")


def package_of(path: Path, metadata: RunMetadata) -> str:
    """Package, or results folder, of the experiment that a run folder belongs to."""
    return metadata.experiment or path.absolute().parent.parent.name


def load_source(path: Path) -> Source:
    """One run folder, with or without results, or one results file, ours or the authors'.

    Raises:
        UserError: it is neither.
    """
    if path.name == "results.json" and (path.parent / "run.json").is_file():
        path = path.parent
    metadata = read_run(path) if (path / "run.json").is_file() else None
    file = results_file(path)
    results = read_results(path) if metadata is None or file.exists() else None
    try:
        source = _source(path, metadata, results)
    except DAMAGE as error:
        raise _unusable(path, error) from error
    return replace(source, digest=file_digest(file, 16)) if results else source


def _source(path: Path, metadata: RunMetadata | None, results: Results | None) -> Source:
    data = results.raw if results else {}
    config: Mapping[str, Any] = data.get("experiment_config") or {}
    of_run = metadata or RunMetadata(schema_version=1, status="complete")
    hf_id = str(config.get("model_name") or path.stem)
    by_id = {spec.hf_id: spec.key for spec in REGISTRY.values()}
    model = str(config.get("model") or of_run.model or by_id.get(hf_id, hf_id))
    spec = REGISTRY.get(model)
    title = config.get("model_title") or of_run.title
    organism = config.get("organism", of_run.organism)
    status = of_run.status or "unknown"
    return Source(
        title=str(title or (spec.title if spec else model.rpartition("/")[2])),
        model=model,
        path=path,
        organism=bool(spec.organism if organism is None and spec else organism),
        outcomes=[outcome_of(trial) for trial in iter_trials(results)] if results else [],
        settings=_settings(config),
        status="partial" if status == "complete" and data.get("partial") else status,
        data=data,
        experiment=NUMBERS.get(package_of(path, metadata), 0) if metadata else _number(data),
        metadata=metadata,
        results=results,
    )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """``experiment_config``, with the authors' names for what can be compared with ours."""
    theirs = {"judge_id": "judge_model_name", "n_trials": "n_trials_per_feature"}
    return {**{ours: config[name] for ours, name in theirs.items() if name in config}, **config}


def _number(data: Mapping[str, Any]) -> int:
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


def _unusable(path: Path, error: Exception) -> UserError:
    cause = f"{type(error).__name__}: {error}".splitlines()[0]
    return UserError(
        f"{path} cannot be used ({cause})", "results as they were written", f"ls {path}"
    )


def left_out(path: Path, error: Exception) -> None:
    """Say in one line that a run or a file is not used, and why."""
    reason = error if isinstance(error, UserError) else _unusable(path, error)
    warn(f"{reason.problem}: left out")


def differing_settings(sources: Sequence[Source]) -> str:
    """One sentence on the settings in which the runs of a figure differ; empty where none."""
    lines = []
    for key, name in COMPARED.items():
        values = [
            source.settings[key] for source in sources if source.settings.get(key) is not None
        ]
        distinct = list(dict.fromkeys(str(value)[:32] for value in values))
        if len(distinct) > 1:
            hashed = key in ("rubric_hash", "prompt_digest")
            lines.append(name if hashed else f"{name} ({', '.join(distinct)})")
    return f"Runs differ in {'; '.join(lines)}." if lines else ""
