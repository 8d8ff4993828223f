"""Figures A.2 and A.3 of the paper: first-attempt scores and restarts without steering.

python plotting/plot_exp8.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from esr.analysis import metrics, tables
from plotting import arms, figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn, Panel
from plotting.sources import Source

EXPERIMENT = "experiment_08_no_steering_baseline"
SCORES, RATES = "exp8_scores", "exp8_rates"

EDGES = np.array([*range(0, 100, 10), 100.0 + 1e-9])
"""Bins of a first-attempt score; 100 belongs to the last one, [11]."""

_ENDS = ("cluster_low", "cluster_high", "two_way_low", "two_way_high")

STEERED, UNSTEERED = "steered at the threshold", "no steering"


@dataclass(frozen=True)
class Scores(arms.Arm):
    """An arm with the first-attempt scores of its graded trials."""

    scores: Sequence[float] = ()

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of graded trials per bin: [10]."""
        return np.histogram(self.scores, EDGES)[0] / max(1, len(self.scores))

    @property
    def label(self) -> str:
        """Name, mean, SEM and n."""
        score = self.summary["mean_first_score"]
        sem = "" if score["sem"] is None else f" ± {score['sem']:.1f} (SEM)"
        return f"{self.name}: mean {tables.decimal(score['mean'], 1)}{sem}, n {score['n']:,}"


@dataclass(frozen=True)
class Model:
    """A model without steering and, where its run has a parent, with it."""

    source: Source
    arms: list[Scores]

    @property
    def notes(self) -> list[str]:
        """No steering minus steered, in points, and in what the steered run differs."""
        title, notes = self.source.title, []
        compared = (self.source.data.get("comparison") or {}).get("multi_attempt_rate")
        if compared and compared["difference"] is not None:
            notes.append(
                f"{title}: multi-attempt rate, no steering minus steered: "
                f"{tables.difference(compared, 100)} points, "
                f"{tables.p_values(compared['paired'])}."
            )
        if differing := (self.source.data.get("baseline") or {}).get("differences"):
            notes.append(f"{title}: the steered run differs in {', '.join(differing)}.")
        return notes


def _model(source: Source) -> Model:
    """The numbers behind the figures. The steered arm is the recorded one of the parent."""
    summary = metrics.summary(source.outcomes, source.seed)
    shown = [Scores(UNSTEERED, summary, scores=metrics.first_scores(source.outcomes))]
    if baseline := source.data.get("baseline"):
        recorded, scores = baseline["summary"], baseline["first_scores"]
        shown.append(Scores(STEERED, recorded, colour=style.BASELINE, scores=scores))
    return Model(source, shown)


def _histogram(model: Model, models: Sequence[Model]) -> Panel:
    """Figure A.2: distribution of first-attempt scores; the same kind of model shares a scale."""
    kin = [other for other in models if other.source.organism == model.source.organism]
    highest = max(float(arm.shares.max()) for other in kin for arm in other.arms)
    return Panel(
        partial(_distributions, model=model, highest=highest),
        figure.title(model.source),
        model.source.model,
        "first-attempt score",
        "% of graded trials",
        "" if any(arm.scores for arm in model.arms) else "none graded",
    )


def _distributions(axes: Axes, model: Model, highest: float) -> None:
    for arm in model.arms:
        filled, colour = arm.name == UNSTEERED, arm.colour or style.colour(model.source.model)
        axes.stairs(
            100 * arm.shares,
            [*range(0, 110, 10)],
            fill=filled,
            color=colour,
            alpha=0.5 if filled else 1.0,
            linewidth=1.2,
            label=arm.label,
        )
        mean = arm.summary["mean_first_score"]["mean"]
        if mean is not None:
            axes.axvline(mean, 0, 1 / 1.5, color=colour, linewidth=0.9, linestyle=style.DASHED)
    rates.y_axis(axes, highest or 1.0, headroom=1.5)
    axes.set_xlim(0, 100)
    axes.legend(loc="upper left", fontsize=style.SMALL - 0.4, borderaxespad=0.1)


def score_table(models: Sequence[Model]) -> pd.DataFrame:
    """The numbers of Figure A.2: mean scores, and the share of trials per bin."""
    rows: list[dict[str, Any]] = []
    for model in models:
        for arm in model.arms:
            run = {"model": model.source.model, "title": model.source.title, "arm": arm.name}
            score = arm.summary["mean_first_score"]
            mean = {"value": score["mean"], "n": score["n"], "sem": score["sem"]}
            for kind in ("cluster", "two_way"):
                low, high = score.get(f"{kind}_interval") or (None, None)
                mean |= {f"{kind}_low": low, f"{kind}_high": high}
            rows.append({**run, "quantity": "mean_first_score", **mean})
            for start, share in zip(range(0, 100, 10), arm.shares, strict=True):
                part = {"quantity": "share_of_trials", "bin_low": start, "bin_high": start + 10}
                rows.append({**run, **part, "value": float(share), "n": len(arm.scores)})
    names = ["model", "title", "arm", "quantity", "bin_low", "bin_high", "value", "n", "sem"]
    return pd.DataFrame(rows, columns=[*names, *_ENDS])


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    shown = [_model(source) for source in sources]
    lost = (
        rates.lost(f"{m.source.title}, {arm.name}", arm.summary["counts"])
        for m in shown
        for arm in m.arms
    )
    scores = figure.compose(
        *(SCORES, EXPERIMENT, [(1.7, [_histogram(m, shown)]) for m in shown], score_table(shown)),
        about="First-attempt scores without steering, and with it (Figure A.2 of the paper).",
        sources=sources,
        notes=["Share of graded trials per ten points; dashed: mean.", *lost],
    )
    groups = [arms.Group(m.source, m.source.title, m.arms, m.notes) for m in shown]
    table = arms.table(groups)[["model", "title", "arm", "quantity", *rates.COLUMNS]]
    about = "Restarts without steering, and with it (Figure A.3 of the paper)."
    return [scores, arms.draw(RATES, EXPERIMENT, groups, table, about)]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
