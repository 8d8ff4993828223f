"""Figure 3 of the paper: restarts and recovery over the boost, in sd from the mean threshold.

python plotting/plot_exp2.py [--results PATH ...] [--output DIR]
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
from scipy.ndimage import gaussian_filter1d

from esr.analysis import metrics
from esr.analysis.outcomes import Outcome, outcomes_from_results
from plotting import rates, style
from plotting.command import Drawn, figure_command
from plotting.sources import Source

EXPERIMENT = "experiment_02_multi_boost"
NAME = "exp2_boost_sweep"

SIGMA = 0.5
"""Of the paper's Gaussian, in levels: the published curve is reproduced by whole trials only so."""


LABELS = dict(
    zip(
        rates.QUANTITIES, ("multi-attempt (%)", "improved, given multi (%)", "ESR (%)"), strict=True
    )
)
"""Of the three panels, from top to bottom."""


@dataclass(frozen=True)
class Point:
    """One boost: in the model's units, in sd from the mean threshold, and what was measured."""

    boost: float
    sd: float
    summary: dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One model: the points in ascending order."""

    source: Source
    points: list[Point]

    def smoothed(self, quantity: str) -> NDArray[np.float64]:
        """The smoothed rate at each point, NaN where it is not defined: [n_points]."""
        raw = [point.summary[quantity]["rate"] for point in self.points]
        return smooth(np.array([np.nan if r is None else r for r in raw], dtype=float))


def smooth(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """The paper's smoothing over levels. Undefined rates have no weight and stay undefined.

    Args:
        rates: [n_levels], NaN where not defined.
    """
    defined = ~np.isnan(rates)
    if not defined.any():
        return rates
    weighted = gaussian_filter1d(np.where(defined, rates, 0.0), SIGMA)
    weight = gaussian_filter1d(defined.astype(float), SIGMA)
    return np.where(defined, weighted / np.maximum(weight, 1e-12), np.nan)


def columns(sources: Sequence[Source]) -> list[Column]:
    """The numbers behind the figure."""
    made = []
    for source in sources:
        stats = source.data["threshold_cache_stats"]
        points = [
            Point(
                boost, (boost - stats["mean"]) / stats["std"], metrics.summary(found, source.seed)
            )
            for boost, found in by_boost(source).items()
        ]
        made.append(Column(source, points))
    return made


def by_boost(source: Source) -> dict[float, list[Outcome]]:
    """Outcomes by boost, which is a trial's ``threshold``, in ours and in the authors' files."""
    features = source.data["results_by_feature"]
    boosts = sorted({trial["threshold"] for entry in features for trial in entry["trials"]})
    return {boost: outcomes_from_results(_at(features, boost)) for boost in boosts}


def _at(features: list[dict[str, Any]], boost: float) -> dict[str, Any]:
    kept = [
        {**entry, "trials": [t for t in entry["trials"] if t["threshold"] == boost]}
        for entry in features
    ]
    return {"results_by_feature": kept}


def draw(sources: Sequence[Source]) -> Figure:
    """The figure: three panels above each other for each model."""
    with style.look():
        return _draw(columns(sources))


def _draw(found: Sequence[Column]) -> Figure:
    organisms = [column.source.title for column in found if column.source.organism]
    notes = _notes(found)
    width = style.COLUMN_WIDTH if len(found) < 2 else 2.6 * len(found)
    height = 4.3 + 0.075 * style.note_lines(notes, width)
    figure = style.new_figure(height + (0.3 if organisms else 0.0), width)
    grid = figure.subplots(3, max(1, len(found)), squeeze=False, sharex="col")
    if not found:
        for axes in grid[:, 0]:
            style.empty_panel(axes, f"no complete run of {EXPERIMENT}")
    for column, panels in zip(found, grid.T, strict=False):
        for axes, (quantity, label) in zip(panels, LABELS.items(), strict=True):
            _panel(axes, column, quantity)
            axes.set_ylabel(label, fontsize=style.SMALL)
        _heading(panels[0], column)
        panels[-1].set_xlabel("boost, in sd from the mean threshold")
    style.footnotes(figure, notes, organisms)
    return figure


def _heading(axes: Axes, column: Column) -> None:
    source, stats = column.source, column.source.data["threshold_cache_stats"]
    status = "" if source.status == "complete" else f" ({source.status})"
    told = f"thresholds {stats['mean']:.1f} ± {stats['std']:.1f} (sd)" if stats["std"] else ""
    axes.set_title(
        f"{source.title}{status}\n{told}",
        loc="left",
        fontweight="bold",
        color=style.colour(source.model),
    )


def _panel(axes: Axes, column: Column, quantity: str) -> None:
    shown = [point.summary[quantity] for point in column.points]
    if not any(rate["n"] for rate in shown):
        style.empty_panel(axes, "no multi-attempt trials" if column.points else "no trials")
        return
    colour = style.colour(column.source.model)
    places = np.array([point.sd for point in column.points])
    axes.axvline(0, color=style.FAINT, linewidth=0.6, linestyle=(0, (3, 2)), zorder=0)
    for place, rate in zip(places, shown, strict=True):
        rates.point(axes, place, rate, colour)
    axes.plot(places, 100 * column.smoothed(quantity), color=colour, linewidth=1.0, alpha=0.7)
    if quantity == "conditional_improvement_rate":
        null = [point.summary["redraw_null"]["rate"] for point in column.points]
        heights = [np.nan if share is None else 100 * share for share in null]
        axes.plot(places, heights, "D", markersize=3, markerfacecolor="white", color=style.FAINT)
    highest = 100 * max(rates.top(rate) for rate in shown) or 1.0
    axes.set_ylim(-0.03 * highest, 1.22 * highest)
    axes.set_xlim(places.min() - 0.4, places.max() + 0.4)
    for place, rate in zip(places, shown, strict=True):
        axes.text(place, 1.12 * highest, f"{rate['n']:,}", fontsize=4.8, ha="center")
    axes.text(places.min() - 0.36, 1.12 * highest, "n", fontsize=4.8, ha="left", style="italic")


def _notes(found: Sequence[Column]) -> list[str]:
    if not found:
        return []
    notes = [
        f"Points: raw rates. {rates.INTERVALS}",
        f"Line: the paper's Gaussian smoothing (sigma {SIGMA} levels), over defined points only. "
        "n: graded trials; in the middle panel, multi-attempt trials.",
        "Diamonds: redraw null, how often another first attempt under the same latent and boost "
        "beats the first attempt.",
    ]
    for column in found:
        counts = [point.summary["counts"] for point in column.points]
        total = {name: sum(c[name] for c in counts) for name in ("no_attempts", "failed")}
        notes.append(rates.lost(column.source.title, total))
        if column.points and column.points[0].boost == 0:
            notes.append(
                f"{column.source.title}: boosts below 0 are clipped to 0 and count as one level."
            )
    return [note for note in [*notes, *rates.judges([c.source for c in found])] if note]


def table(sources: Sequence[Source]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    made: list[dict[str, Any]] = []
    for column in columns(sources):
        run = {"model": column.source.model, "title": column.source.title}
        run["source"] = column.source.path.name
        smoothed = {quantity: column.smoothed(quantity) for quantity in rates.QUANTITIES}
        for index, point in enumerate(column.points):
            where = {**run, "boost": point.boost, "sd": point.sd}
            for quantity, values in smoothed.items():
                row = {**rates.row(point.summary[quantity]), "smoothed": values[index]}
                made.append({**where, "quantity": quantity, **row})
            null = point.summary["redraw_null"]
            made.append({**where, "quantity": "redraw_null", "value": null["rate"], "n": null["n"]})
    names = ["model", "title", "source", "boost", "sd", "quantity", *rates.COLUMNS, "smoothed"]
    return pd.DataFrame(made, columns=names)


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    return [Drawn(NAME, draw(sources), table(sources))]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv)


if __name__ == "__main__":
    sys.exit(main())
