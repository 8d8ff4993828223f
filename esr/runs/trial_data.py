"""What ``results.json`` says of a trial and of a latent: types of plain JSON.

Names of keys are the authors', so that their scripts read our files.
"""

from __future__ import annotations

from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from esr.runs.summary import Number, WindowState


@with_config(extra="allow")
class ThresholdEntry(TypedDict):
    """A calibrated latent (:class:`esr.pipeline.schema.Threshold`).

    ``low`` and ``high`` are model-based, not calibrated: they hold the truth less often than 95 %.
    """

    latent: int
    value: Number | None
    low: Number
    high: Number
    rounds: int
    skipped: int
    error: str | None
    scores: NotRequired[list[list[Number | None]]]
    unjudged: NotRequired[int]
    method: NotRequired[str]
    expected_error: NotRequired[Number | None]


@with_config(extra="allow")
class SpecEntry(TypedDict):
    """A trial as it was asked for (:class:`esr.pipeline.schema.TrialSpec`)."""

    arm: str
    trial_id: str
    latent: int
    latent_label: str
    threshold: Number
    prompt_id: str
    prompt: str
    judged: bool
    scope: Any
    interventions: list[dict[str, Any]]
    sampling: dict[str, Any]
    prefix_token_ids: NotRequired[list[int]]
    given: NotRequired[str]


@with_config(extra="allow")
class AttemptData(TypedDict):
    """One attempt; the score is 0 to 100. Windows are those of the keyed judge alone."""

    attempt_text: str
    score: Number
    windows: NotRequired[list[WindowState]]


class PlacedAttempt(AttemptData):
    """One attempt and the characters of the response it takes; None where it does not stand there.

    A span is first character, one past the last.
    """

    span: tuple[int, int] | None


@with_config(extra="allow")
class ScoreData(TypedDict):
    """A verdict; ``status`` is :class:`esr.judge.base.Status`."""

    raw_response: str
    attempts: list[PlacedAttempt]
    status: str


@with_config(extra="allow")
class TrialData(TypedDict):
    """One response; ``threshold`` is the boost it was given under.

    Characters of the response before ``generated_from`` were given, not generated. ``pairing``
    counts tokens by whose intervention steered them, under the wrong pairing alone.
    """

    prompt: str
    feature_index_in_sae: int
    feature_label: str
    threshold: Number
    seed: int
    response: str | None
    score: ScoreData | None
    error: str | None
    trial_id: str
    arm: str
    prompt_id: str
    finish_reason: str
    degraded: bool
    spec: SpecEntry
    generated_from: NotRequired[int]
    pairing: NotRequired[dict[str, int]]


@with_config(extra="allow")
class FeatureData(TypedDict):
    """One latent; ``threshold`` is None and ``error`` says why where calibration failed.

    ``achieved_score``, in experiment 1, is the mean first-attempt score of its graded trials.
    """

    feature_index_in_sae: int
    feature_label: str
    threshold: Number | None
    error: str | None
    trials: list[TrialData]
    calibration: NotRequired[ThresholdEntry]
    achieved_score: NotRequired[float | None]


class SelectionCounts(TypedDict):
    """How latents were chosen, all 0 before they were, and how many have a threshold since."""

    wanted: int
    drawn: int
    concrete: int
    note: str
    calibrated: int
    failed: int
