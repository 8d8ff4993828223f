"""What the runs measured, under the names of ``data/paper_numbers.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from esr.analysis import metrics
from esr.analysis.outcomes import Outcome
from esr.analysis.quantities import MULTI_ATTEMPT, Table
from esr.analysis.tables import contrast_ends, interval_of
from esr.runs.folder import warn
from plotting.sources import DAMAGE, Source, left_out

PERCENT, SCORE = "%", "score"

_RATES = ("multi_attempt_rate", "conditional_improvement_rate", "esr_rate")


@dataclass(frozen=True)
class Measured:
    """One measured quantity.

    Attributes:
        experiment: number in the paper.
        model: registry key; "all" where models are pooled.
        title: of the model.
        arm: as in the paper's numbers.
        quantity: likewise.
        value: None where it is not defined, such as a share of nothing.
        low: end of the 95 % interval; None where there is no interval.
        high: likewise.
        n: denominator.
        count: numerator; None where it is no share.
        unit: of value and interval.
        organism: whether the model is a trained demonstration organism.
        run: key of the run (:attr:`plotting.sources.Source.key`), for links.
        run_arm: name of the arm in the run, for links.
        judge: id.
    """

    experiment: int
    model: str
    title: str
    arm: str
    quantity: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    count: int | None
    unit: str
    organism: bool
    run: str
    run_arm: str = ""
    judge: str = ""


class Arm(NamedTuple):
    """One condition of one run."""

    source: Source
    name: str
    outcomes: list[Outcome]


def measure(sources: Iterable[Source], exclude_degraded: bool = False) -> list[Measured]:
    """All that the newest complete runs measured and the paper has a number for.

    A run in which a value is missing or of another type is told in one line and left out.

    Args:
        sources: newest first; what :attr:`Source.stands` refuses is not looked at.
        exclude_degraded: leave out responses that repeat a word.
    """
    standing = [s for s in sources if s.stands and s.status == "complete" and s.results]
    arms = _newest_arms(standing, exclude_degraded)
    rows: list[Measured] = []

    def add(source: Source, measured: Iterable[Measured]) -> None:
        try:
            rows.extend(list(measured))
        except DAMAGE as error:
            left_out(source.path, error)

    for arm in arms:
        add(arm.source, _of_arm(arm))
    unsteered = [a for a in arms if a.source.experiment == 8 and not a.source.organism]
    if unsteered:
        add(unsteered[0].source, _pooled_unsteered(unsteered))
    for experiment, reader in READERS.items():
        own = [source for source in reversed(standing) if source.experiment == experiment]
        newest = {(source.model, source.settings.get("prompt_set")): source for source in own}
        for source in newest.values():
            add(source, reader(source, [a for a in arms if a.source is source]))
    return rows


def _newest_arms(sources: Iterable[Source], exclude_degraded: bool) -> list[Arm]:
    """The newest run of each arm, model, prompt set and pairing; a larger older one is told."""
    arms: dict[tuple[object, ...], Arm] = {}
    larger: dict[Path, str] = {}
    for source in sources:
        settings = (source.settings.get("prompt_set"), source.settings.get("pairing"))
        for name, outcomes in source.arms.items():
            counted = [o for o in outcomes if not (exclude_degraded and o.degraded)]
            place = (source.experiment, source.model, *settings, name)
            taken = arms.setdefault(place, Arm(source, name, counted))
            if len(counted) > len(taken.outcomes):
                larger[source.path] = (
                    f"{source.path} has {len(counted):,} trials of {name}, the newer "
                    f"{taken.source.path} {len(taken.outcomes):,}, which stand for it; "
                    f"--run {source.path} takes the larger run"
                )
    for line in larger.values():
        warn(line)
    return list(arms.values())


def published_arm(source: Source, arm: str) -> str:
    """What the paper's numbers call an arm of a run; empty where they have none."""
    settings, experiment = source.settings, source.experiment
    if settings.get("prompts") == "held-out" or settings.get("pairing") == "scheduler-order":
        return ""
    if experiment == 1 and arm == "steered":
        return arm
    if experiment == 2:
        levels = {level["arm"]: level["sd"] for level in source.data.get("levels") or []}
        return sd_name(float(levels[arm])) if arm in levels else ""
    if experiment == 3 and arm == "ablation":
        return "detectors ablated"
    if experiment == 4 and arm == "steered" and settings.get("self_correction_percent"):
        return f"{settings['self_correction_percent']} % self-correction"
    if experiment == 5 and "/" not in arm:
        return arm
    return "unsteered" if experiment == 8 else ""


def sd_name(sd: float) -> str:
    """Distance of a boost from the mean threshold: two decimals at most, signed above 0."""
    return f"{round(sd, 2):+g} sd"


def _of_arm(arm: Arm) -> Iterator[Measured]:
    name = published_arm(arm.source, arm.name)
    if name:
        summary: Mapping[str, Any] = metrics.summary(arm.outcomes, arm.source.seed)
        yield from _of_summary(arm.source, name, summary, arm.name)


def _of_summary(
    source: Source, arm: str, summary: Mapping[str, Any], run_arm: str = ""
) -> Iterator[Measured]:
    """The three rates and the mean first score of an arm.

    Intervals are two-way; where clusters do not vary, Wilson's, else the paper's.
    """
    for quantity in (*_RATES, "mean_first_score"):
        entry = summary[quantity]
        share = quantity in _RATES
        yield _measured(
            source,
            (arm, run_arm),
            quantity,
            entry["rate"] if share else entry["mean"],
            interval_of(entry) or entry.get("paper_interval"),
            unit=PERCENT if share else SCORE,
            n=entry["n"],
            count=entry["count"] if share else None,
        )


def _measured(
    source: Source,
    arm: tuple[str, str],
    quantity: str,
    value: float | None,
    interval: Sequence[float | None] | None,
    *,
    n: int,
    count: int | None = None,
    unit: str = PERCENT,
    model: str = "",
    title: str = "",
) -> Measured:
    """A quantity of a run; shares are given as 0 to 1 and become per cent.

    Args:
        arm: as in the paper's numbers, and in the run.
        model: the run's where left out; fine-tuned models go by their base.
        title: likewise.
    """
    scale = 100.0 if unit == PERCENT else 1.0
    value, low, high = (
        None if number is None else scale * number for number in (value, *(interval or (None,) * 2))
    )
    base = source.settings.get("base_model") if source.experiment == 4 else ""
    return Measured(
        experiment=source.experiment,
        model=model or str(base or source.model),
        title=title or source.title,
        arm=arm[0],
        quantity=quantity,
        value=value,
        low=low,
        high=high,
        n=n,
        count=count,
        unit=unit,
        organism=source.organism,
        run=source.key,
        run_arm=arm[1],
        judge=source.judge,
    )


def _pooled_unsteered(arms: Sequence[Arm]) -> Iterator[Measured]:
    """Experiment 8 over all large models: the paper has one count for all."""
    outcomes = [o for arm in arms for o in arm.outcomes]
    rate = metrics.multi_attempt_rate(outcomes)
    if rate.n:
        # Wilson's at 0; else by prompt, which all models share.
        ends = Table.of(outcomes).two_way(MULTI_ATTEMPT) or rate.wilson()
        yield _measured(
            arms[0].source,
            ("unsteered", ""),
            "multi_attempt_rate",
            rate.rate,
            ends,
            n=rate.n,
            count=rate.count,
            model="all",
            title=f"{len(arms)} of 5 models",
        )


def _random_sets(source: Source, arms: Sequence[Arm]) -> Iterator[Measured]:
    """Experiment 10: all sets of a run together, as the paper counts them."""
    sets = [arm for arm in arms if arm.name.startswith("random")]
    outcomes = [o for arm in sets for o in arm.outcomes]
    if outcomes:
        summary = metrics.summary(outcomes, source.seed)
        run_arm = sets[0].name if len(sets) == 1 else ""
        yield from _of_summary(source, "random latents ablated", summary, run_arm)


def _ablation(source: Source, _: Sequence[Arm]) -> Iterator[Measured]:
    """Experiment 3: baseline of the replayed trials, and the reduction on held-out prompts."""
    arm = (source.data.get("arms") or {}).get("ablation")
    if arm and source.settings.get("prompts") == "held-out":
        entry = arm["comparison"]["multi_attempt_rate"]
        ratio, interval = entry["risk_ratio"], contrast_ends(entry, "risk_ratio") or (None, None)
        yield _measured(
            source,
            ("detectors ablated, held-out prompts", "ablation"),
            "multi_attempt_reduction",
            None if ratio is None else 1 - ratio,
            [None if end is None else 1 - end for end in interval[::-1]],
            n=arm["summary"]["counts"]["graded"],
        )
    elif arm:
        yield from _of_summary(source, "baseline", source.data["baseline"])


def _replayed(source: Source, _: Sequence[Arm]) -> Iterator[Measured]:
    """Experiment 5: the parent's trials that the variant replays."""
    summary = (source.data.get("baseline") or {}).get("summary")
    if summary:
        yield from _of_summary(source, "baseline", summary)


def _agreement(source: Source, _: Sequence[Arm]) -> Iterator[Measured]:
    """Experiment 7: smallest and largest agreement over all pairs of judges, as in the paper."""
    pairs = source.data.get("agreement") or []
    for name, key in {"multi-attempt": "multi", "direction": "direction"}.items():
        defined = [pair[key] for pair in pairs if pair[key]["value"] is not None]
        if defined:
            values = [share["value"] for share in defined]
            yield _measured(
                source,
                ("judge pairs", ""),
                f"agreement on {name}",
                None,
                (min(values), max(values)),
                n=min(share["n"] for share in defined),
                model=source.model if source.organism else "all",
            )


CONTROLS = {
    "prefill-unsteered": "prefill, unsteered model continues",
    "prefill-steered": "prefill, steered model continues",
    "concept": "contrastive concept vectors",
}
"""Arms of experiment 11, and what the numbers of later versions call them."""


def _controls(source: Source, _: Sequence[Arm]) -> Iterator[Measured]:
    """Experiment 11, beside what is known of later versions through others."""
    for arm, name in CONTROLS.items():
        if entry := (source.data.get("arms") or {}).get(arm):
            for measured in _of_summary(source, name, entry["summary"], arm):
                yield replace(measured, experiment=0)


READERS: Mapping[int, Callable[[Source, Sequence[Arm]], Iterable[Measured]]] = {
    10: _random_sets,
    3: _ablation,
    5: _replayed,
    7: _agreement,
    11: _controls,
}
"""Quantities that are no plain rates of an arm, by experiment."""
