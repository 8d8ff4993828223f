"""What ``results.json`` says of an arm and of two arms: types of plain JSON.

Dicts, not objects, because they are written as they are computed
(:func:`esr.analysis.metrics.summary`, :func:`esr.analysis.comparison.summary`). None stands for
what is not defined; an interval is a pair, of which an end that is None is unbounded. Keys that a
later version adds are kept.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import WithJsonSchema, with_config
from typing_extensions import TypedDict

Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
"""A number as it was written: 90 stays 90, 90.0 stays 90.0."""

WindowState = Literal["correct", "steered", "other"]
"""What a window of a response is about (:mod:`esr.judge.keyed`)."""

Ends = list[Number | None]


@with_config(extra="allow")
class CountsEntry(TypedDict):
    """How many trials came to what (:class:`esr.analysis.metrics.Counts`)."""

    trials: int
    graded: int
    no_attempts: int
    failed: int
    degraded: int
    multi: int
    improved: int


@with_config(extra="allow")
class RateEntry(TypedDict):
    """A share of trials: ``count`` of ``n``, 0 to 1.

    Older files have neither the two-way interval nor ``smallest_difference``, which two arms like
    this one would show in 80 % of cases at the 5 % level.
    """

    count: int
    n: int
    rate: float | None
    se: float | None
    paper_interval: Ends | None
    wilson: Ends | None
    cluster_interval: Ends | None
    two_way_interval: NotRequired[Ends | None]
    smallest_difference: NotRequired[float | None]


@with_config(extra="allow")
class MeanEntry(TypedDict):
    """A mean score, 0 to 100."""

    mean: float | None
    sem: float | None
    n: int
    paper_interval: Ends | None
    cluster_interval: Ends | None
    two_way_interval: NotRequired[Ends | None]


@with_config(extra="allow")
class RedrawNullEntry(TypedDict):
    """A reference for "improved" (:class:`esr.analysis.metrics.RedrawNull`)."""

    rate: float | None
    n: int
    excluded: int
    improved: int
    cluster_interval: Ends | None
    two_way_interval: NotRequired[Ends | None]
    excess: float | None
    excess_cluster_interval: Ends | None
    excess_two_way_interval: NotRequired[Ends | None]


@with_config(extra="allow")
class AchievedEntry(TypedDict):
    """Mean first-attempt scores at the thresholds, by latent (:mod:`esr.analysis.achieved`)."""

    latents: int
    mean: float | None
    sd: float | None
    below: int
    above: int
    near: list[float]
    thresholds: int
    at_low_bound: int
    at_high_bound: int


@with_config(extra="allow")
class SensitivityEntry(TypedDict):
    """Rates with the trials of latents that could not be calibrated: if none, and if all, count."""

    failed_latents: int
    trials: int
    multi_attempt_rate: Ends
    esr_rate: Ends


@with_config(extra="allow")
class RankEntry(TypedDict):
    """Detectors among random sets: ``as_low`` of ``sets`` have their multi-attempt rate or less.

    ``p_value`` is that of the rank: (1 + as_low) / (1 + sets).
    """

    sets: int
    as_low: int
    rate: float
    p_value: float


@with_config(extra="allow")
class FairNullEntry(TypedDict):
    """N3 or N4 (:class:`esr.analysis.nulls.FairNull`)."""

    rate: float | None
    n: int
    excluded: int
    improved: int
    compared: int
    left_out: int
    two_way_interval: Ends | None
    excess: float | None
    excess_two_way_interval: Ends | None


@with_config(extra="allow")
class ClustersEntry(TypedDict):
    """What two-way intervals rest on: ``by`` names latent and prompt, or one of them."""

    by: list[str]
    latents: int
    prompts: int
    level: float


@with_config(extra="allow")
class RestartGateEntry(TypedDict):
    """A judge's multi-attempts beside announced restarts (:mod:`esr.judge.gate`), in trials.

    ``n`` are the graded trials whose text is known; ``both``, ``judge_only`` (attempts that no
    word announces), ``gate_only`` (announced, not counted by the judge) and ``neither`` add up
    to it.
    """

    n: int
    both: int
    judge_only: int
    gate_only: int
    neither: int


@with_config(extra="allow")
class KeyedEntry(TypedDict):
    """What responses of the keyed judge are about (:mod:`esr.analysis.keyed`).

    ``n`` graded trials; ``windows`` by state; ``ends`` trials by the state of the last window
    that is not "other", and "other" where there is none. A recovery ends correct after a steered
    window, a drift ends steered after a correct one; announced where the response has several
    attempts, else silent.
    """

    n: int
    windows: dict[WindowState, int]
    ends: dict[WindowState, int]
    silent_recovery: int
    announced_recovery: int
    silent_drift: int
    announced_drift: int


@with_config(extra="allow")
class Bootstrap(TypedDict):
    """How the intervals were drawn."""

    seed: int
    resamples: int
    level: float
    cluster: str


@with_config(extra="allow")
class Summary(TypedDict):
    """An arm: counts, rates and scores with intervals.

    ``redraw_null`` draws from all first attempts (N1), ``unabandoned_null`` from those of
    single-attempt trials (N2).
    """

    counts: CountsEntry
    latents: int
    clusters: NotRequired[ClustersEntry]
    bootstrap: Bootstrap
    multi_attempt_rate: RateEntry
    conditional_improvement_rate: RateEntry
    esr_rate: RateEntry
    mean_first_score: MeanEntry
    score_changes: list[Number]
    redraw_null: RedrawNullEntry
    restart_gate: NotRequired[RestartGateEntry]
    keyed: NotRequired[KeyedEntry]
    unabandoned_null: NotRequired[RedrawNullEntry]


@with_config(extra="allow")
class TestEntry(TypedDict):
    """A two-sided test."""

    statistic: float | None
    p_value: float | None
    name: str


@with_config(extra="allow")
class PairedTestEntry(TypedDict):
    """Tests over trials graded in both arms; older files have no sign flips."""

    pairs: int
    unpaired: int
    only_first: int
    only_second: int
    test: TestEntry
    sign_flip: NotRequired[TestEntry]
    sign_flip_prompt: NotRequired[TestEntry | None]


@with_config(extra="allow")
class DifferenceEntry(TypedDict, total=False):
    """A quantity in two arms (:class:`esr.analysis.comparison.Comparison`).

    Older files have no two-way intervals.
    """

    first: float | None
    second: float | None
    difference: float | None
    difference_interval: Ends | None
    difference_two_way: Ends | None
    risk_ratio: float | None
    risk_ratio_interval: Ends | None
    risk_ratio_two_way: Ends | None
    paired: PairedTestEntry
    unpaired: TestEntry | None


Differences = dict[str, DifferenceEntry]
"""Quantity -> how two arms differ in it."""


@with_config(extra="allow")
class Estimate(TypedDict):
    """A value with its intervals: by latent, and of latents and prompts drawn at random.

    Older files have no two-way interval.
    """

    value: float | None
    n: int
    interval: Ends | None
    two_way: NotRequired[Ends | None]


class AttemptLengths(TypedDict):
    """Attempts of one kind (:func:`esr.analysis.lengths.attempt_lengths`)."""

    attempt: str
    n: int
    words: float | None
    score: float | None
    score_by_words: float | None
    cut_off: float | None
    degraded: float | None


class ShareEntry(TypedDict):
    """A share, 0 to 1, latents and prompts drawn at random."""

    rate: float | None
    two_way_interval: Ends | None


class SteeredBy(TypedDict):
    """Whose intervention reached the tokens of a run (:func:`esr.analysis.pairing.steered_by`)."""

    trials: int
    tokens: int
    own: ShareEntry
    other: ShareEntry
    none: ShareEntry
    other_by_outcome: dict[str, float | None]


@with_config(extra="allow")
class ParentEntry(TypedDict):
    """The run whose trials were replayed; ``run_id`` is empty for a file of the authors."""

    run_id: str
    digest: str


@with_config(extra="allow")
class ParentSummary(ParentEntry):
    """The same trials in the parent run, and the settings in which the two runs differ."""

    differences: list[str] | None
    summary: Summary


@with_config(extra="allow")
class ArmEntry(TypedDict):
    """An arm in which latents are clamped or scaled, beside its baseline."""

    latents: list[int]
    dose: Number
    summary: Summary
    comparison: Differences
    identical_responses: dict[str, int]
    boosted_latent_clamped: int
