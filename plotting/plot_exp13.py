"""Experiment 13 (ours): rates under the pairing fault, against requests in flight.

python plotting/plot_exp13.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn, Panel
from plotting.sources import Source

EXPERIMENT = "experiment_13_pairing_fault"
NAME = "exp13_pairing_fault"
FOREIGN = "foreign tokens"
PANELS = ("esr_rate", "multi_attempt_rate", "conditional_improvement_rate")

ASIDE = {"fault": 1.2}
"""Factor by which points are moved aside, by where their boosts come from."""

LOOKS = {
    ("scheduler-order", "parent"): {"marker": "o"},
    ("scheduler-order", "fault"): {"marker": "s", "markerfacecolor": "white"},
    ("request-id", "parent"): {"marker": "^", "markerfacecolor": "white"},
}
"""Of a run's points, by pairing and by where its boosts come from."""


def by_dose(info: Mapping[str, Any]) -> Hashable:
    """One run per model, dose, pairing and source of the boosts."""
    options = {**info.get("config", {}), **info.get("identity", {})}
    doses = tuple(options.get("doses") or ())
    return str(info["model"]), doses, options.get("pairing"), options.get("thresholds")


@dataclass(frozen=True)
class Point:
    """One run."""

    source: Source
    in_flight: int
    look: tuple[str, str]

    @classmethod
    def of(cls, source: Source) -> Point:
        """From its results."""
        pairing = str(source.settings["pairing"])
        return cls(source, int(source.data["in_flight"]), (pairing, source.data["thresholds_from"]))

    def rate(self, quantity: str) -> rates.Rate:
        """A rate of the summary, or the share of foreign tokens."""
        if quantity != FOREIGN:
            return rates.rate_of(self.source.data["summary"], quantity)
        share = self.source.data["steered_by"]
        entry = share["other"]
        interval = {"two_way_interval": entry["two_way_interval"], "cluster_interval": None}
        return {"rate": entry["rate"], "n": share["trials"], "count": None, **interval}


def _models(sources: Sequence[Source]) -> dict[str, list[Point]]:
    models: dict[str, list[Point]] = {}
    for source in sources:
        models.setdefault(source.model, []).append(Point.of(source))
    return {model: sorted(points, key=lambda p: p.in_flight) for model, points in models.items()}


def _panel(points: Sequence[Point], quantity: str, first: bool) -> Panel:
    model, title = points[0].source.model, rates.TITLES.get(quantity, quantity)
    unit = "% of multi-attempt trials" if quantity.startswith("conditional") else "% of graded"
    none = all(point.rate(quantity)["rate"] is None for point in points)
    return Panel(
        partial(_draw, points=points, quantity=quantity),
        f"{points[0].source.title}\n{title}" if first else title,
        model,
        "requests in flight",
        "% of tokens" if quantity == FOREIGN else unit,
        "no restarts" if none else "",
    )


def _draw(axes: Axes, points: Sequence[Point], quantity: str) -> None:
    """Points of every kind of run; the parent, with the correct pairing, as a line and a band."""
    colour = style.colour(points[0].source.model)
    shown = [point.rate(quantity) for point in points]
    if quantity != FOREIGN:
        parent = rates.rate_of(points[0].source.data["baseline"]["summary"], quantity)
        shown.append(parent)
        if parent["rate"] is not None:
            axes.axhline(100 * parent["rate"], color=style.BASELINE, linewidth=1)
            ends = parent.get("two_way_interval") or parent["cluster_interval"] or parent["wilson"]
            if ends:
                axes.axhspan(*(100 * end for end in ends), color=style.BASELINE, alpha=0.15, lw=0)
    for look, marker in LOOKS.items():
        own = [point for point in points if point.look == look]
        places = [point.in_flight * ASIDE.get(look[1], 1.0) for point in own]
        drawn = [point.rate(quantity) for point in own]
        if own:
            rates.points(axes, places, drawn, colour, look=marker)
    axes.set_xscale("log")
    doses = sorted({point.in_flight for point in points})
    axes.set_xticks(doses, [str(dose) for dose in doses])
    axes.minorticks_off()
    rates.y_axis(axes, rates.limit(shown))


def _table(models: Mapping[str, Sequence[Point]]) -> pd.DataFrame:
    rows = [
        {
            "model": model,
            "title": point.source.title,
            "source": point.source.path.name,
            "in_flight": point.in_flight,
            "pairing": point.look[0],
            "boosts": point.look[1],
            "quantity": quantity,
            **rates.row(point.rate(quantity)),
        }
        for model, points in models.items()
        for point in points
        for quantity in (*PANELS, rates.SCORE, FOREIGN)
    ]
    names = ["model", "title", "source", "in_flight", "pairing", "boosts", "quantity"]
    return pd.DataFrame(rows, columns=list(dict.fromkeys([*names, *rates.COLUMNS])))


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    models = _models(sources)
    rows = [
        (
            1.7,
            [
                _panel(points, quantity, not place)
                for place, quantity in enumerate((*PANELS, FOREIGN))
            ],
        )
        for points in models.values()
    ]
    return [
        figure.compose(
            *(NAME, EXPERIMENT, rows, _table(models)),
            about="Rates under the wrong pairing of the authors' fork (ours, beyond the paper).",
            sources=sources,
            notes=[
                "Line and band: the parent, with the correct pairing. Circles: the wrong pairing, "
                "boosts of the parent; open squares: boosts calibrated under it; open triangles: "
                "the correct pairing. Bars: 95 %, latents and prompts drawn at random.",
                "Foreign tokens: steered by another intervention than their own, prompt included.",
            ],
            width=style.PAGE_WIDTH,
        )
    ]


main = figure_command(EXPERIMENT, __doc__, figures, by_dose)

if __name__ == "__main__":
    raise SystemExit(main())
