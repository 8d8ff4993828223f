"""Types of ``results.json`` as the paper's experiments, 1 to 10, write it.

Keys that are not declared are allowed, so that a later version may add some.
"""

from __future__ import annotations

from typing import Any, NotRequired

from pydantic import with_config
from typing_extensions import TypedDict

from esr.runs.summary import (
    AchievedEntry,
    ArmEntry,
    Differences,
    Estimate,
    Number,
    ParentEntry,
    ParentSummary,
    RankEntry,
    SensitivityEntry,
    Summary,
)
from esr.runs.trial_data import FeatureData, SelectionCounts


@with_config(extra="allow")
class ConfigData(TypedDict):
    """The options of an experiment, and what they resolved to."""

    model: str
    profile: str
    judge: str
    rubric: str
    seed: int
    engine: str
    pairing: str
    model_name: str
    model_title: str
    organism: bool
    judge_id: str
    rubric_hash: str | None
    prompt_set: str
    prompt_digest: str
    steering_layer: int
    feature_layer: int
    run_id: str


@with_config(extra="allow")
class RunResults(TypedDict):
    """What every experiment writes; ``partial`` where it was interrupted."""

    experiment_config: ConfigData
    results_by_feature: list[FeatureData]
    partial: bool


class EsrResults(RunResults):
    """Experiment 1."""

    selection: SelectionCounts
    summary: Summary
    achieved: NotRequired[AchievedEntry]
    sensitivity: NotRequired[SensitivityEntry]


class LevelData(TypedDict):
    """One boost of the sweep."""

    arm: str
    boost: float
    sd: float
    summary: Summary


class MultiBoostResults(RunResults):
    """Experiment 2."""

    boost_levels: list[float]
    threshold_cache_stats: dict[str, Number | None]
    levels: list[LevelData]
    shape: dict[str, Differences]


@with_config(extra="allow")
class DetectorStats(TypedDict):
    """A latent over matched (normal) and mismatched (shuffled) pairs."""

    shuffled_mean_activation: float
    normal_mean_activation: float
    shuffled_active_frequency: float
    normal_active_frequency: float
    auc: float
    label: str


class DetectorResults(RunResults, total=False):
    """Experiment 3, the search; an interrupted one has no detectors."""

    model_name: str
    model_digest: str
    method: str
    off_topic_detectors: list[int]
    separability_detectors: list[int]
    detector_stats: dict[str, DetectorStats]
    pairs: dict[str, int | str]
    criterion: dict[str, float]
    nearest_to_strict: DetectorStats
    separability_null: dict[str, Number]
    active_latents: int
    feature_layer: int
    run_id: str
    file: str


class AblationResults(RunResults):
    """Experiment 3, the ablation."""

    ablated_latents: list[int]
    detectors: dict[str, str]
    parent: ParentEntry
    differences: list[str] | None
    baseline: Summary
    arms: dict[str, ArmEntry]


class FinetuningResults(RunResults):
    """Experiment 4: one model; ``against_base`` in those of fine-tuned models."""

    selection: dict[str, Any]
    summary: Summary
    unsteered: Summary
    against_base: NotRequired[dict[str, Any]]


class ReplayResults(RunResults):
    """Experiments 5 and 8: one arm beside the trials it replays."""

    summary: Summary
    baseline: ParentSummary
    comparison: Differences


class EpisodeResults(RunResults):
    """Experiment 6; without the episode where none was read. Series are [n_tokens]."""

    parent: ParentEntry
    episode: NotRequired[dict[str, Any]]
    boundaries: NotRequired[dict[str, int | str]]
    regions: NotRequired[dict[str, int]]
    tokens: NotRequired[list[str]]
    detectors: NotRequired[dict[str, Any]]
    series: NotRequired[dict[str, list[float]]]
    region_means: NotRequired[dict[str, dict[str, float | None]]]


class SampleData(TypedDict):
    """The stratified sample; ``weights`` by trial id."""

    population: dict[str, int]
    drawn: dict[str, int]
    ungraded: int
    weights: dict[str, float]
    strata: NotRequired[dict[str, str]]
    latents: NotRequired[dict[str, dict[str, int]]]


class WeightedRatesData(TypedDict):
    """A judge's rates over all trials the sample stands for, post-stratified."""

    graded: int
    multi: Estimate
    esr: Estimate


class GateAgreementData(TypedDict):
    """A judge and announced restarts (:class:`esr.analysis.agreement.GateAgreement`)."""

    pairs: int
    multi: Estimate
    multi_kappa: Estimate
    announced: Estimate
    counted: Estimate


class JudgeData(TypedDict):
    """One judge; weighted is None where a stratum of the sample has no graded trial."""

    sample: Summary
    all_trials: WeightedRatesData
    gate: NotRequired[GateAgreementData]
    gate_weighted: NotRequired[GateAgreementData | None]


class JudgeAgreementData(TypedDict):
    """How far two judges agree (:class:`esr.analysis.agreement.Agreement`)."""

    pairs: int
    unpaired: int
    multi: Estimate
    multi_kappa: Estimate
    improved: Estimate
    improved_kappa: Estimate
    direction: Estimate
    confirmed: Estimate
    pearson: Estimate
    spearman: Estimate
    attempts: Estimate


class AgreementData(JudgeAgreementData):
    """Two judges as sampled, and over all trials the sample stands for."""

    first: str
    second: str
    weighted: NotRequired[JudgeAgreementData | None]


class CrossJudgeResults(RunResults):
    """Experiment 7."""

    sample: SampleData
    by_judge: dict[str, JudgeData]
    agreement: list[AgreementData]


class AlignedData(TypedDict):
    """Activations per token around the correction: [2 * window + 1]."""

    offset: list[int]
    mean: list[float | None]
    sem: list[float | None]
    n: list[int]


@with_config(extra="allow")
class RegionData(TypedDict):
    """A latent or a group of latents, off topic against on topic."""

    n: int
    off_topic_mean: float | None
    on_topic_mean: float | None
    cohens_d: float | None
    cliffs_delta: float | None
    wilcoxon_p: float


class LatentRegionData(RegionData):
    """One latent; p values are corrected within its group."""

    group: str
    latent: int
    label: str
    baseline_mean: float | None
    holm_p: float
    fdr_p: float


class ActivationResults(RunResults):
    """Experiment 9."""

    parent: ParentEntry
    model_digest: str
    detectors: dict[str, Any]
    counts: dict[str, int]
    boundaries: list[str]
    latents: list[LatentRegionData]
    groups: dict[str, RegionData]
    aligned: dict[str, AlignedData]


class PooledData(TypedDict):
    """All random sets together against the baseline."""

    summary: Summary
    comparison: Differences


class DetectorAblationData(PooledData):
    """The detectors' own ablation, from experiment 3."""

    run_id: str
    against_random: Differences


class RandomControlResults(RunResults):
    """Experiment 10."""

    detectors: dict[str, Any]
    random_sets: list[list[int]]
    matching: dict[str, Any]
    parent: ParentEntry
    differences: list[str] | None
    baseline: Summary
    arms: dict[str, ArmEntry]
    pooled: PooledData
    rank: NotRequired[dict[str, RankEntry]]
    partnered_against_random: Differences | None
    ablation: DetectorAblationData | None
