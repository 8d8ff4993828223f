"""Figure 3 of the paper: restarts and recovery over the boost, in sd from the mean threshold.

python plotting/plot_exp2.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

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
from esr.analysis.outcomes import Outcome, outcome_of
from esr.runs.results import iter_trials, parse_results
from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.sources import Source

EXPERIMENT = "experiment_02_multi_boost"
NAME = "exp2_boost_sweep"

SIGMA = 0.5
"""Of the paper's Gaussian, in levels: the published curve is reproduced by whole trials only so."""

LABELS = {
    "multi_attempt_rate": "multi-attempt (%)",
    "conditional_improvement_rate": "improved, given multi (%)",
    "esr_rate": "ESR (%)",
}
"""Of the three panels, from top to bottom."""


@dataclass(frozen=True)
class Point:
    """One boost: in the model's units, in sd from the mean threshold, and what was measured."""

    boost: float
    sd: float
    summary: rates.Summary


@dataclass(frozen=True)
class Sweep:
    """One model: a column of the figure, the points in ascending order."""

    source: Source
    points: list[Point]

    def smoothed(self, quantity: str) -> NDArray[np.float64]:
        """The smoothed rate at each point, NaN where it is not defined: [n_points]."""
        raw = [point.summary[quantity]["rate"] for point in self.points]
        return smooth(np.array(raw, dtype=float))


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


def _sweep(source: Source) -> Sweep:
    stats, points = source.data["threshold_cache_stats"], []
    for boost, outcomes in _by_boost(source).items():
        sd = (boost - stats["mean"]) / stats["std"]
        points.append(Point(boost, sd, metrics.summary(outcomes, source.seed)))
    return Sweep(source, points)


def _by_boost(source: Source) -> dict[float, list[Outcome]]:
    """Outcomes by boost, which is a trial's ``threshold``, in ours and in the authors' files."""
    levels: dict[float, list[Outcome]] = {}
    for trial in iter_trials(parse_results(source.data)):
        levels.setdefault(float(trial.threshold or 0.0), []).append(outcome_of(trial))
    return dict(sorted(levels.items()))


@style.look()
def _draw(sweeps: Sequence[Sweep]) -> Figure:
    """Three panels above each other for each model."""
    sources = [sweep.source for sweep in sweeps]
    picture, grid = figure.grid(
        *(EXPERIMENT, [1.6, 1.35, 1.5] if sweeps else [], len(sweeps) or 1),
        sources=sources,
        notes=[*_notes(sweeps), *figure.judges(sources)],
        width=max(style.COLUMN_WIDTH, 2.6 * len(sweeps)),
        sharex="col",
    )
    for sweep, panels in zip(sweeps, grid.T, strict=False):
        for axes, (quantity, label) in zip(panels, LABELS.items(), strict=True):
            _panel(axes, sweep, quantity)
            axes.set_ylabel(label, fontsize=style.SMALL)
        stats, title = sweep.source.data["threshold_cache_stats"], figure.title(sweep.source)
        if stats["std"]:
            title += f"\nthresholds {stats['mean']:.1f} ± {stats['std']:.1f} (sd)"
        figure.heading(panels[0], title, sweep.source.model)
        panels[-1].set_xlabel("boost, in sd from the mean threshold")
    return picture


def _panel(axes: Axes, sweep: Sweep, quantity: str) -> None:
    shown = [point.summary[quantity] for point in sweep.points]
    if not any(rate["n"] for rate in shown):
        style.empty_panel(axes, "no multi-attempt trials" if shown else "no trials")
        return
    colour = style.colour(sweep.source.model)
    places = np.array([point.sd for point in sweep.points])
    highest = 100 * max(rates.top(rate) for rate in shown) or 1.0
    axes.axvline(0, color=style.FAINT, linewidth=0.6, linestyle=style.DASHED, zorder=0)
    for place, rate in zip(places, shown, strict=True):
        rates.point(axes, place, rate, colour)
        axes.text(place, 1.12 * highest, f"{rate['n']:,}", fontsize=4.8, ha="center")
    axes.text(places.min() - 0.36, 1.12 * highest, "n", fontsize=4.8, ha="left", style="italic")
    axes.plot(places, 100 * sweep.smoothed(quantity), color=colour, linewidth=1.0, alpha=0.7)
    if quantity == "conditional_improvement_rate":
        nulls = [point.summary["redraw_null"]["rate"] for point in sweep.points]
        heights = 100 * np.array(nulls, dtype=float)
        axes.plot(places, heights, "D", markersize=3, markerfacecolor="white", color=style.FAINT)
    axes.set_ylim(-0.03 * highest, 1.22 * highest)
    axes.set_xlim(places.min() - 0.4, places.max() + 0.4)


def _notes(sweeps: Sequence[Sweep]) -> list[str]:
    notes = [
        f"Points: raw rates. {rates.INTERVALS}",
        f"Line: the paper's Gaussian smoothing (sigma {SIGMA} levels), over defined points only. "
        "n: graded trials; in the middle panel, multi-attempt trials.",
        "Diamonds: redraw null, how often another first attempt under the same latent and boost "
        "beats the first attempt.",
    ]
    for sweep in sweeps:
        title = sweep.source.title
        counts = [point.summary["counts"] for point in sweep.points]
        total = {name: sum(c[name] for c in counts) for name in ("no_attempts", "failed")}
        notes.append(rates.lost(title, total))
        if sweep.points and sweep.points[0].boost == 0:
            notes.append(f"{title}: boosts below 0 are clipped to 0 and count as one level.")
    return notes


def _table(sweeps: Sequence[Sweep]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    rows: list[dict[str, Any]] = []
    for sweep in sweeps:
        source = sweep.source
        run = {"model": source.model, "title": source.title, "source": source.path.name}
        smoothed = {quantity: sweep.smoothed(quantity) for quantity in LABELS}
        for index, point in enumerate(sweep.points):
            for row in rates.rows(point.summary):
                if row["quantity"] in smoothed:
                    row["smoothed"] = smoothed[row["quantity"]][index]
                rows.append({**run, "boost": point.boost, "sd": point.sd, **row})
    names = ["model", "title", "source", "boost", "sd", "quantity", *rates.COLUMNS, "smoothed"]
    return pd.DataFrame(rows, columns=names)


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    sweeps = [_sweep(source) for source in sources]
    return [Drawn(NAME, _draw(sweeps), _table(sweeps))]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
