"""Runs of experiment 4 as sweeps: a base model and what was fine-tuned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from esr.analysis import metrics
from esr.analysis.outcomes import outcomes_from_results
from plotting import style
from plotting.rates import Summary
from plotting.sources import Source

ARMS = {"steered": "steered at its own thresholds", "unsteered": "not steered"}
"""Arms of a run, and what a legend calls them."""


@dataclass(frozen=True)
class Point:
    """One model of a sweep.

    Attributes:
        percent: self-correction in its training data; 0 for the base model.
        training_seed: of its training; 0 for the base model.
        turn: which of the trainings of its mix, from 0.
        source: its run.
        arms: :func:`esr.analysis.metrics.summary` by arm.
    """

    percent: int
    source: Source
    arms: Mapping[str, Summary]
    training_seed: int = 0
    turn: int = 0


@dataclass(frozen=True)
class Sweep:
    """A base model and what was fine-tuned from it.

    Attributes:
        base: key of the base model.
        points: by share of self-correction.
        left_out: titles of runs that replay another run of the base model.
    """

    base: str
    points: list[Point]
    left_out: list[str]

    @property
    def source(self) -> Source:
        """The run that stands for the sweep: the base model's, where there is one."""
        return self.points[0].source

    @property
    def title(self) -> str:
        """Of the base model."""
        return style.base_title(self.source.title)


def sweeps(sources: Sequence[Source]) -> list[Sweep]:
    """Runs by base model; points of one sweep replay one and the same run of it."""
    by_base: dict[str, list[Source]] = {}
    for source in sources:
        by_base.setdefault(str(source.settings["base_model"]), []).append(source)
    return [_sweep(base, runs) for base, runs in by_base.items()]


def _sweep(base: str, runs: Sequence[Source]) -> Sweep:
    tuned = [source for source in runs if source.settings["self_correction_percent"]]
    plain = [source for source in runs if not source.settings["self_correction_percent"]]
    run = str(plain[0].settings["run_id"]) if plain else _parent(tuned[0])
    same = [source for source in tuned if _parent(source) == run]
    points = [_point(source) for source in [*plain[:1], *same]]
    points.sort(key=lambda point: (point.percent, point.training_seed))
    other = [source.title for source in tuned if source not in same]
    return Sweep(base, [_in_turn(points, i) for i in range(len(points))], other)


def _in_turn(points: Sequence[Point], i: int) -> Point:
    """A point that knows how many of its mix come before it."""
    return replace(points[i], turn=sum(p.percent == points[i].percent for p in points[:i]))


def _parent(source: Source) -> str:
    return str(source.data["against_base"]["run_id"])


def _point(source: Source) -> Point:
    arms = {
        arm: metrics.summary(outcomes_from_results(source.data, arm), source.seed) for arm in ARMS
    }
    percent = int(source.settings["self_correction_percent"])
    return Point(percent, source, arms, int(source.settings.get("training_seed") or 0))
