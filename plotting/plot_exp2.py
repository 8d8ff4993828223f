"""Figure 3 of the paper: restarts and recovery over the boost, in sd from the mean threshold.

python plotting/plot_exp2.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from esr.analysis import metrics
from esr.analysis.outcomes import Outcome, outcome_of
from esr.runs.results import iter_trials, parse_results
from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn, Panel
from plotting.sources import Source

EXPERIMENT = "experiment_02_multi_boost"
NAME = "exp2_boost_sweep"

SIGMA = 0.5
"""Of the paper's Gaussian, in levels: the published curve is reproduced by whole trials only so."""

LABELS = {
    "multi_attempt_rate": "multi-attempt (%)",
    "conditional_improvement_rate": "improved (%)",
    "esr_rate": "ESR (%)",
    rates.SCORE: "first-attempt score",
}
"""Of the panels, from top to bottom."""

NO_TRIALS = "no such trials"
BESIDE = 3
"""Models beside each other, at most."""


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
        raw = [rates.rate_of(point.summary, quantity)["rate"] for point in self.points]
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


def _panel(sweep: Sweep, sweeps: Sequence[Sweep], quantity: str) -> Panel:
    """One quantity over the boost; rates of the same kind of model share a scale."""
    title, stats = figure.title(sweep.source), sweep.source.data["threshold_cache_stats"]
    if stats["std"]:
        title += f"\nthresholds {stats['mean']:.1f} ± {stats['std']:.1f} (sd)"
    kin = [other for other in sweeps if other.source.organism == sweep.source.organism]
    unit = rates.unit_of(quantity)
    alike = rates.MULTI_AND_ESR if quantity in rates.MULTI_AND_ESR else (quantity,)
    shown = (rates.rate_of(p.summary, q) for other in kin for p in other.points for q in alike)
    limit = unit.high if quantity not in rates.MULTI_AND_ESR else rates.limit(shown, unit, 1.0)
    first = quantity == next(iter(LABELS))
    return Panel(
        partial(_trend, sweep=sweep, quantity=quantity, limit=limit),
        title if first else "",
        sweep.source.model if first else "",
        "boost, in sd from the mean threshold",
        LABELS[quantity],
        "" if any(rates.rate_of(p.summary, quantity)["n"] for p in sweep.points) else NO_TRIALS,
    )


def _trend(axes: Axes, sweep: Sweep, quantity: str, limit: float) -> None:
    shown = [rates.rate_of(point.summary, quantity) for point in sweep.points]
    unit, colour = rates.unit_of(quantity), style.colour(sweep.source.model)
    places = [point.sd for point in sweep.points]
    axes.axvline(0, color=style.FAINT, linewidth=0.6, linestyle=style.DASHED, zorder=0)
    if quantity == "conditional_improvement_rate":
        rates.nulls(axes, places, [p.summary for p in sweep.points], 0.09)
    rates.points(axes, places, shown, colour, unit)
    line = unit.scale * sweep.smoothed(quantity)
    axes.plot(places, line, color=colour, linewidth=1.0, alpha=0.7)
    rates.y_axis(axes, limit, unit)
    rates.sizes(axes, places, shown)
    axes.set_xlim(min(places) - 0.4, max(places) + 0.4)


def _notes(sweeps: Sequence[Sweep]) -> Iterator[str]:
    yield f"Points: raw rates and scores. {rates.INTERVALS} {rates.PALE}"
    yield (
        f"Line: the paper's Gaussian smoothing (sigma {SIGMA} levels), over defined points only. "
        "Figures along the upper edge: graded trials; in the second panel, multi-attempt trials."
    )
    yield rates.NULL
    for sweep in sweeps:
        title = sweep.source.title
        counts = [point.summary["counts"] for point in sweep.points]
        total = {name: sum(c[name] for c in counts) for name in ("no_attempts", "failed")}
        yield rates.lost(title, total)
        if sweep.points and sweep.points[0].boost == 0:
            yield f"{title}: boosts below 0 are clipped to 0 and count as one level."


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
    rows = [
        (height, [_panel(sweep, sweeps, quantity) for sweep in sweeps[place : place + BESIDE]])
        for place in range(0, len(sweeps), BESIDE)
        for height, quantity in zip((1.35, 0.95, 0.95, 1.15), LABELS, strict=True)
    ]
    drawn = figure.compose(
        *(NAME, EXPERIMENT, rows, _table(sweeps)),
        about="Restarts and recovery over the boost (Figure 3 of the paper).",
        sources=sources,
        notes=_notes(sweeps),
        width=max(style.COLUMN_WIDTH, style.PAGE_WIDTH * min(len(sweeps), BESIDE) / BESIDE),
    )
    return [drawn]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
