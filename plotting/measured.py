"""What the runs measured, under the names of ``data/paper_numbers.json``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esr.analysis import metrics
from esr.analysis.intervals import Proportion
from esr.analysis.outcomes import Outcome
from plotting.runfiles import ArmOfRun, RunFile, newest_arms

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
        run: key of the run (:attr:`plotting.runfiles.RunFile.key`), for links.
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


def measure(runs: Sequence[RunFile], exclude_degraded: bool = False) -> list[Measured]:
    """All that the newest complete runs measured and the paper has a number for.

    Args:
        runs: newest first.
        exclude_degraded: leave out responses that repeat a word.
    """
    found: list[Measured] = []
    for item in newest_arms(runs):
        arm = published_arm(item.run, item.name)
        if arm:
            found += of_outcomes(item, arm, kept(item.outcomes, exclude_degraded))
    found += _pooled_unsteered(runs, exclude_degraded)
    found += _random_sets(runs, exclude_degraded)
    for experiment, reader in READERS.items():
        for run in newest_by_model(runs, experiment):
            found += reader(run)
    return found


def kept(outcomes: Iterable[Outcome], exclude_degraded: bool) -> list[Outcome]:
    """Outcomes that count."""
    return [o for o in outcomes if not (exclude_degraded and o.degraded)]


def newest_by_model(runs: Iterable[RunFile], experiment: int) -> list[RunFile]:
    """The newest complete run of each model that has results; ``runs`` stand newest first."""
    newest: dict[str, RunFile] = {}
    for run in runs:
        if run.experiment == experiment and run.status == "complete" and run.data:
            newest.setdefault(run.model, run)
    return list(newest.values())


def published_arm(run: RunFile, arm: str) -> str:
    """What the paper's numbers call an arm of a run; empty where they have none."""
    if run.config.get("prompts") == "held-out" or run.config.get("pairing") == "scheduler-order":
        return ""
    if run.experiment == 1 and arm == "steered":
        return arm
    if run.experiment == 2:
        return _level(run, arm)
    if run.experiment == 3 and arm == "ablation":
        return "detectors ablated"
    if run.experiment == 4 and arm == "steered" and run.config.get("self_correction_percent"):
        return f"{run.config['self_correction_percent']} % self-correction"
    if run.experiment == 5 and "/" not in arm:
        return arm
    return "unsteered" if run.experiment == 8 else ""


def _level(run: RunFile, arm: str) -> str:
    """A level of the boost sweep by its distance from the mean threshold: "+1.67 sd"."""
    for level in run.data.get("levels") or []:
        if level["arm"] == arm:
            return sd_name(float(level["sd"]))
    return ""


def sd_name(sd: float) -> str:
    """Two decimals at most, with a sign above 0."""
    return f"{round(sd, 2):+g} sd"


def published_model(run: RunFile) -> str:
    """Model of a run as the paper's numbers name it: fine-tuned models go by their base."""
    return str(run.config.get("base_model") or run.model) if run.experiment == 4 else run.model


def of_outcomes(item: ArmOfRun, arm: str, outcomes: Sequence[Outcome]) -> list[Measured]:
    """The three rates and the mean first score of an arm."""
    run = item.run
    summary: Mapping[str, Any] = metrics.summary(outcomes, run.seed)
    made = [
        one(run, arm, name, summary[name]["rate"], ends(summary[name]), PERCENT, item.name)
        for name in _RATES
    ]
    score = summary["mean_first_score"]
    made.append(one(run, arm, "mean_first_score", score["mean"], ends(score), SCORE, item.name))
    counted = [(summary[name]["n"], summary[name]["count"]) for name in _RATES]
    counted.append((score["n"], None))
    return [
        Measured(**{**vars(row), "n": n, "count": count})
        for row, (n, count) in zip(made, counted, strict=True)
    ]


def ends(rate: Mapping[str, Any]) -> Sequence[float] | None:
    """The interval clustered by latent; where it does not vary, Wilson's, else the paper's."""
    found: Sequence[float] | None = (
        rate["cluster_interval"] or rate.get("wilson") or rate.get("paper_interval")
    )
    return found


def one(
    run: RunFile,
    arm: str,
    quantity: str,
    value: float | None,
    interval: Sequence[float | None] | None,
    unit: str,
    run_arm: str = "",
    **more: Any,
) -> Measured:
    """A quantity of a run; shares are given as 0 to 1 and kept in per cent."""
    scale = 100.0 if unit == PERCENT else 1.0
    low, high = (None if end is None else scale * end for end in interval or (None, None))
    fields: dict[str, Any] = {
        "experiment": run.experiment,
        "model": published_model(run),
        "title": run.title,
        "n": 0,
        "count": None,
        "organism": run.organism,
        "run": run.key,
        "judge": run.judge,
    }
    known = None if value is None else scale * value
    return Measured(
        **{**fields, **more},
        arm=arm,
        quantity=quantity,
        value=known,
        low=low,
        high=high,
        unit=unit,
        run_arm=run_arm,
    )


def _pooled_unsteered(runs: Sequence[RunFile], exclude_degraded: bool) -> Iterator[Measured]:
    """Experiment 8 over all large models: the paper has one count for all."""
    items = [i for i in newest_arms(runs) if i.run.experiment == 8 and not i.run.organism]
    if not items:
        return
    outcomes = [o for item in items for o in kept(item.outcomes, exclude_degraded)]
    rate = metrics.multi_attempt_rate(outcomes)
    if not rate.n:
        return
    more = {"model": "all", "title": f"{len(items)} of 5 models", "n": rate.n, "count": rate.count}
    yield _wilson(items[0].run, "unsteered", "multi_attempt_rate", rate, more)


def _wilson(
    run: RunFile, arm: str, name: str, rate: Proportion, more: Mapping[str, Any]
) -> Measured:
    interval = rate.wilson()
    return one(run, arm, name, rate.rate, (interval.low, interval.high), PERCENT, **more)


def _random_sets(runs: Sequence[RunFile], exclude_degraded: bool) -> Iterator[Measured]:
    """Experiment 10: all sets of a run together, as the paper counts them."""
    for run in newest_by_model(runs, 10):
        sets = {name: found for name, found in run.arms.items() if name.startswith("random")}
        outcomes = [o for found in sets.values() for o in kept(found, exclude_degraded)]
        if outcomes:
            pooled = ArmOfRun(run, next(iter(sets)) if len(sets) == 1 else "", outcomes)
            yield from of_outcomes(pooled, "random latents ablated", outcomes)


def _experiment_3(run: RunFile) -> Iterator[Measured]:
    """Baseline of the replayed trials, detectors, and the reduction on held-out prompts."""
    arm = (run.data.get("arms") or {}).get("ablation")
    if arm and run.config.get("prompts") == "held-out":
        found = arm["comparison"]["multi_attempt_rate"]
        ratio, ratio_ends = found["risk_ratio"], found["risk_ratio_interval"] or (None, None)
        interval = [None if end is None else 1 - end for end in ratio_ends[::-1]]
        name = "detectors ablated, held-out prompts"
        value = None if ratio is None else 1 - ratio
        n = arm["summary"]["counts"]["graded"]
        yield one(run, name, "multi_attempt_reduction", value, interval, PERCENT, "ablation", n=n)
    elif arm:
        yield from _of_summary(run, "baseline", run.data["baseline"])


def _experiment_5(run: RunFile) -> Iterator[Measured]:
    """Baseline: the parent's trials that the variant replays."""
    found = (run.data.get("baseline") or {}).get("summary")
    if found:
        yield from _of_summary(run, "baseline", found)


def _of_summary(run: RunFile, arm: str, summary: Mapping[str, Any]) -> Iterator[Measured]:
    for name in _RATES:
        rate = summary[name]
        counted = {"n": rate["n"], "count": rate["count"]}
        yield one(run, arm, name, rate["rate"], ends(rate), PERCENT, **counted)
    score = summary["mean_first_score"]
    yield one(run, arm, "mean_first_score", score["mean"], ends(score), SCORE, n=score["n"])


def _experiment_7(run: RunFile) -> Iterator[Measured]:
    """Smallest and largest agreement over all pairs of judges, as the paper gives it."""
    pairs = run.data.get("agreement") or []
    for quantity, key in (
        ("agreement on multi-attempt", "multi"),
        ("agreement on direction", "direction"),
    ):
        known = [p[key] for p in pairs if p[key]["value"] is not None]
        if known:
            values = [k["value"] for k in known]
            share = (min(values), max(values))
            more = {"model": run.model if run.organism else "all"}
            more |= {"n": min(k["n"] for k in known)}
            yield one(run, "judge pairs", quantity, None, share, PERCENT, **more)


READERS: Mapping[int, Callable[[RunFile], Iterable[Measured]]] = {
    3: _experiment_3,
    5: _experiment_5,
    7: _experiment_7,
}
"""Quantities that are no plain rates of an arm, by experiment."""
