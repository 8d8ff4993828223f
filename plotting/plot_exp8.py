"""Figures A.2 and A.3 of the paper: first-attempt scores and restarts without steering.

python plotting/plot_exp8.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from esr.analysis import metrics, tables
from plotting import rates, style
from plotting.command import Drawn, figure_command
from plotting.sources import Source

EXPERIMENT = "experiment_08_no_steering_baseline"
SCORES, RATES = "exp8_scores", "exp8_rates"

EDGES = np.array([*range(0, 100, 10), 100.0 + 1e-9])
"""Bins of a first-attempt score; 100 belongs to the last one, [11]."""

STEERED, STEERED_COLOUR = "steered at the threshold", "#9a9a9a"
UNSTEERED = "no steering"


@dataclass(frozen=True)
class Arm:
    """One condition of a model.

    Attributes:
        name: ``UNSTEERED`` or ``STEERED``.
        summary: see :func:`esr.analysis.metrics.summary`.
        scores: first-attempt scores of graded trials.
    """

    name: str
    summary: dict[str, Any]
    scores: list[float]

    @property
    def shares(self) -> NDArray[np.float64]:
        """Share of graded trials per bin: [10]."""
        return np.histogram(self.scores, EDGES)[0] / max(1, len(self.scores))

    def told(self) -> str:
        """Mean, SEM and n."""
        score = self.summary["mean_first_score"]
        sem = "" if score["sem"] is None else f" ± {score['sem']:.1f} (SEM)"
        return f"{self.name}: {tables.decimal(score['mean'], 1)}{sem}, n {score['n']:,}"


@dataclass(frozen=True)
class Model:
    """A model without steering and, where its run has a parent, with it."""

    source: Source
    arms: list[Arm]

    def colour(self, arm: Arm) -> str:
        """Grey for the steered arm."""
        return STEERED_COLOUR if arm.name == STEERED else style.colour(self.source.model)

    @property
    def title(self) -> str:
        """With a mark where the run is not complete."""
        status = self.source.status
        return self.source.title if status == "complete" else f"{self.source.title} ({status})"


def models(sources: Sequence[Source]) -> list[Model]:
    """The numbers behind the figures. The steered arm is the recorded one of the parent."""
    made = []
    for source in sources:
        summary = metrics.summary(source.outcomes, source.seed)
        arms = [Arm(UNSTEERED, summary, metrics.first_scores(source.outcomes))]
        baseline = source.data.get("baseline")
        if baseline:
            arms.append(Arm(STEERED, baseline["summary"], baseline["first_scores"]))
        made.append(Model(source, arms))
    return made


def draw_scores(found: Sequence[Model]) -> Figure:
    """Figure A.2: distribution of first-attempt scores without steering, and with it."""
    with style.look():
        notes = _notes(found, "Share of graded trials per ten points of the first-attempt score.")
        figure = _figure(found, 1.35, notes, style.COLUMN_WIDTH)
        grid = figure.subplots(max(1, len(found)), 1, squeeze=False)[:, 0]
        if not found:
            style.empty_panel(grid[0], f"no complete run of {EXPERIMENT}")
        for model, axes in zip(found, grid, strict=False):
            _histogram(axes, model)
        if found:
            grid[-1].set_xlabel("first-attempt score")
        style.footnotes(figure, notes, _organisms(found))
    return figure


def _histogram(axes: Axes, model: Model) -> None:
    if not any(arm.scores for arm in model.arms):
        style.empty_panel(axes, "none graded")
        axes.set_title(model.title, loc="left", fontweight="bold")
        return
    for arm in model.arms:
        colour, filled = model.colour(arm), arm.name == UNSTEERED
        axes.stairs(
            100 * arm.shares,
            [*range(0, 110, 10)],
            fill=filled,
            color=colour,
            alpha=0.75 if filled else 1.0,
            linewidth=1.2,
            label=arm.told(),
        )
        mean = arm.summary["mean_first_score"]["mean"]
        if mean is not None:
            axes.axvline(mean, 0, 0.7, color=colour, linewidth=0.9, linestyle=(0, (3, 2)))
    highest = 100 * max(float(arm.shares.max()) for arm in model.arms)
    axes.set_ylim(0, 1.45 * highest)
    axes.set_xlim(0, 100)
    axes.set_ylabel("% of trials")
    axes.legend(loc="upper left", fontsize=style.SMALL - 0.4, borderaxespad=0.1)
    colour = style.colour(model.source.model)
    axes.set_title(model.title, loc="left", fontweight="bold", color=colour)


def draw_rates(found: Sequence[Model]) -> Figure:
    """Figure A.3: multi-attempt rate and ESR rate without steering, and with it."""
    with style.look():
        notes = _notes(found, rates.INTERVALS, _differences(found))
        figure = _figure(found, 0.95, notes, style.PAGE_WIDTH)
        grid = figure.subplots(max(1, len(found)), 2, squeeze=False)
        if not found:
            for axes in grid[0]:
                style.empty_panel(axes, f"no complete run of {EXPERIMENT}")
        for model, row in zip(found, grid, strict=False):
            for axes, quantity in zip(row, ("multi_attempt_rate", "esr_rate"), strict=True):
                _bars(axes, model, found, quantity)
        style.footnotes(figure, notes, _organisms(found))
    return figure


def _bars(axes: Axes, model: Model, found: Sequence[Model], quantity: str) -> None:
    kin = [m for m in found if m.source.organism == model.source.organism]
    tops = [rates.top(arm.summary[quantity]) for m in kin for arm in m.arms]
    bars = [rates.bar(arm.name, arm.summary[quantity], model.colour(arm)) for arm in model.arms]
    style.horizontal_bars(axes, bars, min(1.0, 1.1 * max(tops)) or 1.0)
    axes.set_xlabel("% of graded trials")
    axes.set_title(
        f"{model.title}: {rates.QUANTITIES[quantity]}",
        loc="left",
        fontweight="bold",
        color=style.colour(model.source.model),
    )


def _figure(found: Sequence[Model], row: float, notes: Sequence[str], width: float) -> Figure:
    lines = style.note_lines(notes, width)
    banner = 0.3 if _organisms(found) else 0.0
    return style.new_figure(row * max(1, len(found)) + 0.2 + 0.095 * lines + banner, width)


def _organisms(found: Sequence[Model]) -> list[str]:
    return [model.source.title for model in found if model.source.organism]


def _differences(found: Sequence[Model]) -> str:
    """No steering minus steered, in points, with McNemar's p."""
    told = []
    for model in found:
        compared = (model.source.data.get("comparison") or {}).get("multi_attempt_rate")
        if compared and compared["difference"] is not None:
            told.append(
                f"{model.title} {tables.difference(compared, 100)} points, "
                f"McNemar p {compared['paired']['test']['p_value']:.2g}"
            )
    return f"Multi-attempt rate, no steering minus steered: {'; '.join(told)}." if told else ""


def _notes(found: Sequence[Model], *first: str) -> list[str]:
    if not found:
        return []
    notes = list(first)
    for model in found:
        for arm in model.arms:
            notes.append(rates.lost(f"{model.source.title}, {arm.name}", arm.summary["counts"]))
        differing = (model.source.data.get("baseline") or {}).get("differences")
        if differing:
            named = ", ".join(differing)
            notes.append(f"{model.source.title}: the steered run differs in {named}.")
    return [note for note in [*notes, *rates.judges([m.source for m in found])] if note]


def score_table(found: Sequence[Model]) -> pd.DataFrame:
    """The numbers of Figure A.2: mean scores, and the share of trials per bin."""
    made: list[dict[str, Any]] = []
    for model in found:
        for arm in model.arms:
            run = {"model": model.source.model, "title": model.source.title, "arm": arm.name}
            score = arm.summary["mean_first_score"]
            ends = score["cluster_interval"] or (None, None)
            about = {"value": score["mean"], "n": score["n"], "sem": score["sem"]}
            limits = {"cluster_low": ends[0], "cluster_high": ends[1]}
            made.append({**run, "quantity": "mean_first_score", **about, **limits})
            for low, share in zip(range(0, 100, 10), arm.shares, strict=True):
                where = {"quantity": "share_of_trials", "bin_low": low, "bin_high": low + 10}
                made.append({**run, **where, "value": float(share), "n": len(arm.scores)})
    names = ["model", "title", "arm", "quantity", "bin_low", "bin_high", "value", "n", "sem"]
    return pd.DataFrame(made, columns=[*names, "cluster_low", "cluster_high"])


def rate_table(found: Sequence[Model]) -> pd.DataFrame:
    """The numbers of Figure A.3; shares are 0 to 1."""
    made = [
        {
            "model": model.source.model,
            "title": model.source.title,
            "arm": arm.name,
            "quantity": quantity,
            **rates.row(arm.summary[quantity]),
        }
        for model in found
        for arm in model.arms
        for quantity in ("multi_attempt_rate", "esr_rate")
    ]
    return pd.DataFrame(made, columns=["model", "title", "arm", "quantity", *rates.COLUMNS])


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    found = models(sources)
    return [
        Drawn(SCORES, draw_scores(found), score_table(found)),
        Drawn(RATES, draw_rates(found), rate_table(found)),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv)


if __name__ == "__main__":
    sys.exit(main())
