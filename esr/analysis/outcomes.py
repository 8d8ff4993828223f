"""What a trial came to: the light record that every metric works on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from esr.errors import UserError
from esr.judge.base import FAILURES, Status


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        latent: the boosted latent; trials that share it form a cluster.
        trial_id: the same for the same trial under another condition.
        scores: of all attempts, 0 to 100, in the order of the response; None or empty unless
            graded.
        status: one of :class:`esr.judge.base.Status`.
        degraded: whether the response repeats a word (:func:`degraded`).
    """

    latent: int
    trial_id: str
    scores: tuple[float, ...] | None
    status: str
    degraded: bool = False

    def __post_init__(self) -> None:
        if (self.status == Status.GRADED) != bool(self.scores):
            raise ValueError(f"trial {self.trial_id}: {self.status} with scores {self.scores}")

    @property
    def graded(self) -> bool:
        """Whether there is at least one scored attempt."""
        return bool(self.scores)

    @property
    def multi(self) -> bool:
        """At least two scored attempts."""
        return len(self.scores or ()) >= 2

    @property
    def improved(self) -> bool:
        """Multi-attempt, and the last score is strictly above the first."""
        return self.multi and self.change > 0

    @property
    def first(self) -> float:
        """First-attempt score; NaN where not graded."""
        return float(self.scores[0]) if self.scores else float("nan")

    @property
    def change(self) -> float:
        """Last minus first score; NaN where not graded."""
        return float(self.scores[-1] - self.scores[0]) if self.scores else float("nan")


def degraded(text: str, repeats: int = 5) -> bool:
    """Whether a word longer than one character stands ``repeats`` times in a row (section 2.3).

    Words are what white space separates, compared as they stand.
    """
    run, previous = 0, ""
    for word in text.split():
        run = run + 1 if word == previous else 1
        previous = word
        if run >= repeats and len(word) > 1:
            return True
    return False


def outcomes_from_results(data: Mapping[str, Any], arm: str | None = None) -> list[Outcome]:
    """Outcomes from a results file in the authors' schema, ours or theirs.

    A trial with an ``error`` or without a score is failed; one with a score but no attempts is
    ``no_attempts``. Our own files name the status of a verdict, which tells the kinds of failure
    apart, and the ``trial_id``; in the authors' files the latent, the seed and the prompt stand
    for the latter.

    Args:
        data: the parsed file.
        arm: the one arm wanted of a file of ours that holds several; all trials where left out.

    Raises:
        UserError: the data do not follow the schema.
    """
    try:
        return [_outcome(t) for t in _trials(data) if arm is None or t["arm"] == arm]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"not a results file: {type(error).__name__} {error}",
            "results_by_feature, a list of features with trials (README, run folders)",
            "name a results.json of a run folder, or a results file of the authors",
        ) from error


def _trials(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for feature in data["results_by_feature"]:
        latent = feature["feature_index_in_sae"]
        for trial in feature.get("trials") or []:
            yield {"feature_index_in_sae": latent, **trial}


def trial_name(trial: Mapping[str, Any], latent: int) -> str:
    """What pairs a trial over arms: ours by its id, the authors' by latent, seed and prompt."""
    return trial.get("trial_id") or f"{latent}/{trial.get('seed')}/{trial.get('prompt')}"


def _outcome(trial: Mapping[str, Any]) -> Outcome:
    latent = int(trial["feature_index_in_sae"])
    name = trial_name(trial, latent)
    scores = _scores(trial)
    named = (trial.get("score") or {}).get("status")
    status = Status.GRADED if scores else Status.NO_ATTEMPTS
    if trial.get("error") or scores is None:
        status = Status(named) if named in FAILURES else Status.FAILED
    repeats = degraded(trial.get("response") or "")
    return Outcome(latent, name, scores if status == Status.GRADED else None, status, repeats)


def _scores(trial: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Scores of all attempts; None where the judge gave no list, or one with a missing score."""
    attempts = (trial.get("score") or {}).get("attempts")
    if attempts is None or any(attempt["score"] is None for attempt in attempts):
        return None
    return tuple(float(attempt["score"]) for attempt in attempts)
