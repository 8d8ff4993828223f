"""Types of ``results.json`` as the experiments beyond the paper, 11 to 13, and ``esr.directions``
write it."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypedDict

from esr.pipeline.paper_results import RunResults
from esr.runs.summary import Differences, Number, ParentEntry, ParentSummary, SteeredBy, Summary


class OperatorData(TypedDict):
    """An operator under one calibration; ``parent`` where it is the parent's own trials.

    ``values`` and ``divergences`` by latent, the latter in nats per token; ``failed``: latents
    without a value, and why. ``geometry``: :class:`esr.directions.geometry.Geometry`.
    """

    operator: str
    layers: list[int]
    calibration: str
    parent: bool
    values: dict[str, Number]
    failed: dict[str, str]
    divergence: float | None
    divergences: dict[str, float]
    geometry: dict[str, Number] | None
    summary: Summary
    comparison: Differences | None


class OperatorResults(RunResults):
    """Experiment 12: an arm per operator and calibration, beside the parent's boosts."""

    parent: ParentEntry
    differences: list[str] | None
    baseline: Summary
    arms: dict[str, OperatorData]


class GuardData(TypedDict):
    """A guard at one strength, with a boost against it and without one."""

    defended: Summary
    clean: Summary
    restored: float | None
    cost: float | None
    geometry: dict[str, Number] | None


class DefenceResults(RunResults):
    """Experiment 12, the defence."""

    parent: ParentEntry
    differences: list[str] | None
    defence_layers: list[int]
    unsteered: Summary
    baseline: Summary
    arms: dict[str, GuardData]
    failed: dict[str, str]


class DirectionResults(RunResults, total=False):
    """``python -m esr.directions fit``; an interrupted one has no direction. ``direction`` is what
    the file says beside the vectors."""

    direction: dict[str, Any]
    file: str


class ControlArm(TypedDict):
    """An arm of experiment 11 beside the same trials of the parent; the rates of a ``part``, of
    chosen trials or of parts of responses, are none of all trials."""

    part: bool
    summary: Summary
    parent: Summary
    comparison: Differences


class ControlResults(RunResults):
    """Experiment 11. ``findings`` are what one control alone says, under its name."""

    baseline: ParentSummary
    controls: list[str]
    left_out: dict[str, str]
    arms: dict[str, ControlArm]
    findings: dict[str, Any]


class BoostData(TypedDict):
    """Mean boost of the latents, here and in the parent."""

    latents: int
    mean: float | None
    parent_mean: float | None


class PairingResults(RunResults):
    """Experiment 13: one run per number of requests in flight."""

    in_flight: int
    thresholds_from: str
    summary: Summary
    baseline: ParentSummary
    comparison: Differences
    steered_by: SteeredBy
    boosts: BoostData
