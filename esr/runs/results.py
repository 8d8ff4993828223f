"""``results.json``: its types, and the one reader of it.

The schema is the authors' (https://github.com/agencyenterprise/endogenous-steering-resistance,
result files of experiment 1), so that their scripts read our files and this reads theirs. Keys
beyond theirs are additions; those that are not declared here are kept as they are.

>>> for trial in iter_trials(read_results(Path("data/results/.../results.json")), arm="steered"):
...     print(trial.latent, trial.scores, trial.response)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, PrivateAttr, SkipValidation, ValidationError, model_validator

from esr.errors import UserError
from esr.runs.run_metadata import Entry
from esr.runs.summary import (
    ArmEntry,
    Differences,
    Number,
    ParentEntry,
    ParentSummary,
    Summary,
    WindowState,
)
from esr.runs.trial_data import SpecEntry, ThresholdEntry
from esr.runs.user_files import first_fault


class AttemptEntry(Entry):
    """One attempt; ``score`` is 0 to 100, ``span`` where it stands in the response.

    A span is (first character, one past the last), None where the text does not stand there; it
    is in our files alone (:mod:`esr.judge.spans`). Windows are those of the keyed judge.
    """

    attempt_text: str = ""
    score: Number | None
    span: tuple[int, int] | None = None
    windows: list[WindowState] = Field(default_factory=list)


class ScoreEntry(Entry):
    """What the judge said; ``status`` is :class:`esr.judge.base.Status`, in our files alone."""

    raw_response: str | None = None
    attempts: list[AttemptEntry] | None = None
    status: str | None = None


class Trial(Entry):
    """One response. What it leaves out of latent, label and threshold is its feature's."""

    prompt: str | None
    feature_index_in_sae: int = -1
    feature_label: str | None = None
    threshold: Number | None = None
    seed: int | None
    response: str | None
    score: ScoreEntry | None
    error: str | None = None
    trial_id: str | None = None
    arm: str | None = None
    prompt_id: str | None = None
    finish_reason: str | None = None
    degraded: bool | None = None
    spec: SpecEntry | None = None

    @property
    def latent(self) -> int:
        """The boosted latent, or the one the trial belongs to."""
        return self.feature_index_in_sae

    @property
    def name(self) -> str:
        """What pairs a trial over arms: ours by its id, the authors' by latent, seed and prompt."""
        return self.trial_id or f"{self.latent}/{self.seed}/{self.prompt}"

    @property
    def attempts(self) -> list[AttemptEntry]:
        """Attempts of the response; empty where the judge gave none."""
        return (self.score.attempts if self.score else None) or []

    @property
    def scores(self) -> tuple[float, ...] | None:
        """Scores of all attempts that have one; None where the judge gave no list, or no score.

        An attempt without a score is left out and the trial stays, as in the authors' code.
        """
        if self.score is None or self.score.attempts is None:
            return None
        scores = tuple(float(a.score) for a in self.attempts if a.score is not None)
        return scores if scores or not self.attempts else None

    @property
    def judged(self) -> bool:
        """Whether it was meant for a judge; some responses only serve to be read."""
        return self.spec is None or bool(self.spec.get("judged", True))


class Feature(Entry):
    """One latent; its threshold is None where calibration failed."""

    feature_index_in_sae: int
    feature_label: str | None = None
    threshold: Number | None
    error: str | None = None
    trials: list[Trial] = Field(default_factory=list)
    calibration: ThresholdEntry | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_trials(cls, data: Any) -> Any:
        """``"trials": null`` stands in files of latents that were given up."""
        if isinstance(data, Mapping) and data.get("trials", ()) is None:
            return {**data, "trials": []}
        return data

    @model_validator(mode="after")
    def _hand_down(self) -> Feature:
        for trial in self.trials:
            given = trial.model_fields_set
            if "feature_index_in_sae" not in given:
                trial.feature_index_in_sae = self.feature_index_in_sae
            if "threshold" not in given:
                trial.threshold = self.threshold
            trial.feature_label = trial.feature_label or self.feature_label
        return self


class ExperimentConfig(Entry):
    """The options, and what they resolved to; the authors' files have only a few of them."""

    model: str | None = None
    model_name: str | None = None
    model_title: str | None = None
    organism: bool | None = None
    judge_id: str | None = None
    judge_model_name: str | None = None
    rubric_hash: str | None = None
    prompt_set: str | None = None
    prompt_digest: str | None = None
    profile: str | None = None
    pairing: str | None = None
    seed: int | None = None
    steering_layer: int | None = None
    feature_layer: int | None = None
    run_id: str | None = None

    @property
    def judge_name(self) -> str:
        """Id of the judge; empty where it is not recorded."""
        return self.judge_id or self.judge_model_name or ""


class Results(Entry):
    """A results file. What one experiment alone writes is in :attr:`raw`.

    Configuration, latents and trials are checked when a file is read; what was computed from
    them is taken as it stands, and checked where we write it (``docs/schema``).
    """

    experiment_config: ExperimentConfig = ExperimentConfig()
    summary: SkipValidation[Summary | None] = None
    baseline: SkipValidation[ParentSummary | Summary | None] = None
    comparison: SkipValidation[Differences | None] = None
    arms: SkipValidation[dict[str, ArmEntry] | None] = None
    parent: SkipValidation[ParentEntry | None] = None
    differences: SkipValidation[list[str] | None] = None
    results_by_feature: list[Feature]
    partial: bool = False

    _raw: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def raw(self) -> dict[str, Any]:
        """The file as plain JSON."""
        return self._raw

    @property
    def features(self) -> list[Feature]:
        """One entry per latent, in the order of the file."""
        return self.results_by_feature


def iter_trials(results: Results, arm: str | None = None) -> Iterator[Trial]:
    """Trials in the order of the file; all of them, or those of one arm."""
    for feature in results.results_by_feature:
        for trial in feature.trials:
            if arm is None or trial.arm == arm:
                yield trial


def parse_results(data: Results | Mapping[str, Any]) -> Results:
    """Typed results from plain JSON.

    Raises:
        UserError: the data do not follow the schema.
    """
    if isinstance(data, Results):
        return data
    try:
        results = Results.model_validate(data)
    except ValidationError as error:
        raise UserError(
            f"not a results file: {first_fault(error)}",
            "results_by_feature, a list of features with trials (README, run folders)",
            "name a results.json of a run folder, or a results file of the authors",
        ) from error
    results._raw = dict(data)
    return results


def results_file(path: Path) -> Path:
    """The results file behind a run folder or a file path."""
    return path / "results.json" if path.is_dir() else path


def read_results(path: Path) -> Results:
    """A results file, ours or the authors', or the one in a run folder.

    Raises:
        UserError: missing, not JSON, or without the schema's keys.
    """
    file = results_file(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        results = Results.model_validate(data)
    except OSError as error:
        raise UserError(
            f"cannot read {file} ({error.strerror})",
            "a run folder or a results file",
            "ls data/results/*/*/*",
        ) from error
    except (ValueError, RecursionError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(
            f"{file} is not a results file ({fault})",
            "JSON with experiment_config and results_by_feature[].trials[]",
            "name a results.json of a run folder or of the authors' release",
        ) from error
    results._raw = data
    return results
