"""A rate of :func:`esr.analysis.metrics.summary` as a bar, as a point, and as a row of a CSV."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from esr.analysis import tables
from plotting import style

Rate = Mapping[str, Any]
Summary = Mapping[str, Any]

QUANTITIES = {
    "multi_attempt_rate": "multi-attempt rate",
    "conditional_improvement_rate": "improved, given multi-attempt",
    "esr_rate": "ESR rate",
}
"""Names in a summary, and in a figure."""

SCORE = "mean_first_score"
N1, N2 = "redraw_null", "unabandoned_null"
NAMES = {
    **QUANTITIES,
    SCORE: "first-attempt score",
    N1: "redraw, all firsts (N1)",
    N2: "redraw, unabandoned (N2)",
}

TITLES = {**NAMES, "conditional_improvement_rate": "improved, given multi"}
"""Above panels, of which four stand beside each other."""

MULTI_AND_ESR = ("multi_attempt_rate", "esr_rate")
"""The two rates of which most figures are made. They share a scale."""

INTERVALS = (
    "Whiskers: 95 %, latents and prompts drawn at random (two-way); by prompt where nothing is "
    "boosted; dotted: Wilson, where clusters do not vary. The paper's 1.96 binomial SE and the "
    "bootstrap over latents are in the CSV."
)

NULL = (
    "Open diamonds: N1, how often another first attempt under the same latent and boost beats the "
    "first. A reference, no sign that restarting helps: many of those were given up because they "
    "were bad. Filled: N2, the same among first attempts that were not given up."
)

REFERENCES = {N1: "white", N2: style.INK}
"""The two that bracket an improvement rate, and how their diamonds are filled."""

FEW = 10
"""Points on fewer trials are drawn pale."""

HEADROOM = 1.15
"""Height of an axis in its highest point."""

PALE = f"Pale: fewer than {FEW} trials."

COLUMNS = [
    *("value", "count", "n", "paper_low", "paper_high"),
    *("cluster_low", "cluster_high", "wilson_low", "wilson_high"),
    *("two_way_low", "two_way_high"),
]

ENDS = ("low", "high", "low_by_latent", "high_by_latent")
"""Columns of a value whose two intervals are two-way and by latent."""


class Unit(NamedTuple):
    """How a value is drawn: times ``scale``, within ``low`` and ``high``, with its sign."""

    scale: float = 1.0
    low: float = 0.0
    high: float = np.inf
    sign: str = ""
    digits: int = 1


SHARE = Unit(100.0, 0.0, 1.0, " %")
POINTS = Unit(1.0, 0.0, 100.0)


class Bar(NamedTuple):
    """A rate with its label and its colour; its references, in the order of
    :data:`REFERENCES`, and what is said behind its value."""

    label: str
    rate: Rate
    colour: str
    nulls: tuple[Rate | None, ...] = ()
    more: str = ""


def unit_of(quantity: str) -> Unit:
    """A score is drawn as it is, a rate in per cent."""
    return POINTS if quantity == SCORE else SHARE


def rate_of(summary: Summary, quantity: str) -> Rate:
    """An entry of a summary under the keys of a rate."""
    entry = summary[quantity]
    return {**entry, "rate": entry["mean"]} if quantity == SCORE else entry


def limit(shown: Iterable[Rate], unit: Unit = SHARE, headroom: float = 1.1) -> float:
    """End of an axis on which all these rates are to be compared."""
    return min(unit.high, headroom * max((top(rate, unit) for rate in shown), default=0.0)) or 1.0


def bars(
    axes: Axes,
    shown: Sequence[Bar],
    limit: float,
    unit: Unit = SHARE,
    *,
    names: bool = True,
    ticks: int = 4,
) -> None:
    """Horizontal bars from top to bottom, each under its value and n.

    Args:
        axes: to draw in.
        shown: a rate that is not defined draws nothing but says so.
        limit: right end of the axis.
        unit: of rates and limit.
        names: whether labels stand at the left; else a panel further left has them.
        ticks: intervals between them, at most.
    """
    rows = range(len(shown))[::-1]
    for row, bar in zip(rows, shown, strict=True):
        axes.annotate(
            f"{_value(bar.rate, unit)}{bar.more}",
            xy=(max(0.0, unit.low * unit.scale), row + 0.22),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=style.SMALL - 0.4,
            va="bottom",
        )
        if bar.rate["rate"] is not None:
            length = unit.scale * bar.rate["rate"]
            axes.barh(row, length, height=0.4, color=bar.colour, alpha=0.4, linewidth=0)
            for ends, look in _whisker(bar.rate, unit, "|"):
                axes.plot(ends, [row, row], **look)
        for place, (null, fill) in enumerate(zip(bar.nulls, REFERENCES.values(), strict=False)):
            if null and null["rate"] is not None:
                _null(axes, null, row - 0.29 - 0.14 * place, unit, fill)
    axes.set_ylim(-0.62 if any(bar.nulls for bar in shown) else -0.5, len(shown) - 0.3)
    axes.set_xlim(min(0.0, unit.scale * unit.low), unit.scale * limit)
    labels = [_two_lines(bar.label) for bar in shown]
    axes.set_yticks(list(rows) if names else [], labels if names else [])
    axes.tick_params(axis="y", length=0)
    # Ticks that depend on the width would come after the room for their labels is found.
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))


def _two_lines(label: str) -> str:
    """A long label in two lines of much the same length."""
    words = label.replace("_", " ")
    if len(words) < 18:
        return words
    wrapped = (
        textwrap.wrap(words, width, break_long_words=False)
        for width in range(len(words) // 2, len(words))
    )
    return "\n".join(next(lines for lines in wrapped if len(lines) < 3))


def _null(axes: Axes, null: Rate, row: float, unit: Unit, fill: str) -> None:
    for ends, look in _whisker(null, unit, "|"):
        axes.plot(ends, [row, row], **{**look, "markersize": 2.5})
    mark: Any = {"color": style.INK, "markerfacecolor": fill, "markersize": 2.6}
    axes.plot([unit.scale * null["rate"]], [row], "D", **mark, markeredgewidth=0.7, zorder=6)


def points(
    axes: Axes,
    places: Sequence[float],
    shown: Sequence[Rate],
    colour: str,
    unit: Unit = SHARE,
    look: Mapping[str, Any] | None = None,
    limit: float = np.inf,
) -> None:
    """Points with their intervals; nothing where a rate is not defined.

    Args:
        axes: to draw in.
        places: [n]
        shown: [n]
        colour: of the points.
        unit: of the rates.
        look: of the points, where they are not to be filled circles.
        limit: of the axis; what reaches beyond is a triangle there, with its value.
    """
    marker = {"marker": "o", "markersize": 3.6, **(look or {})}
    for place, rate in zip(places, shown, strict=True):
        if top(rate, unit) > limit:
            _far(axes, (place, unit.scale * limit), rate, colour, unit)
        elif rate["rate"] is not None:
            alpha = 0.3 if rate["n"] < FEW else 1.0
            for ends, line in _whisker(rate, unit, "_"):
                axes.plot([place, place], ends, **line, alpha=alpha)
            value = [unit.scale * rate["rate"]]
            axes.plot([place], value, color=colour, zorder=5, alpha=alpha, **marker)


def _far(axes: Axes, end: tuple[float, float], rate: Rate, colour: str, unit: Unit) -> None:
    axes.plot(*end, "^", color=colour, markersize=4.2, zorder=5)
    label: Any = {"fontsize": style.SMALL, "color": colour, "ha": "right", "va": "center"}
    text = f"{unit.scale * rate['rate']:.0f}{unit.sign}"
    axes.annotate(text, end, xytext=(-4, 0), textcoords="offset points", **label)


def sizes(
    axes: Axes,
    places: Sequence[float],
    shown: Sequence[Rate],
    row: int = 0,
    colour: str = style.INK,
) -> None:
    """n of each point along the upper edge, where :data:`HEADROOM` leaves room; ``row`` from 0."""
    near, last, lower = 0.06 * (max(places) - min(places)), -np.inf, False
    for place, rate in zip(places, shown, strict=True):
        lower, last = place - last < near and not lower, place
        axes.annotate(
            f"{rate['n']:,}",
            (place, 1.0),
            xytext=(0, -6 * (row + lower)),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            fontsize=4.6,
            ha="center",
            va="top",
            color=colour,
        )


def y_axis(axes: Axes, limit: float, unit: Unit = SHARE, headroom: float = HEADROOM) -> None:
    """From 0 to the limit, with room above and no tick in it."""
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylim(0, unit.scale * limit)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= unit.scale * limit])
    axes.set_ylim(-0.03 * unit.scale * limit, headroom * unit.scale * limit)


def nulls(
    axes: Axes, places: Sequence[float], summaries: Sequence[Summary], apart: float = 0.0
) -> None:
    """Both references of each summary as diamonds, ``apart`` to the left and right of a place.

    Older files have the first one alone.
    """
    for side, (name, fill) in zip((-1, 1), REFERENCES.items(), strict=True):
        there = [
            (place + side * apart, summary[name])
            for place, summary in zip(places, summaries, strict=True)
            if name in summary
        ]
        look = {"marker": "D", "markerfacecolor": fill, "markersize": 2.6, "linestyle": "none"}
        points(
            *(axes, [place for place, _ in there], [null for _, null in there], style.INK),
            look={**look, "markeredgewidth": 0.7},
        )


def _whisker(rate: Rate, unit: Unit, cap: str) -> Iterator[tuple[list[float], dict[str, Any]]]:
    """The ends of the interval and how they are drawn; nothing where there is none."""
    if ends := tables.interval_of(rate):
        look = {"color": style.INK, "linewidth": 0.9, "zorder": 4, "marker": cap}
        look |= {"markersize": 4.5, "markeredgewidth": 0.9}
        solid = rate.get("two_way_interval") or rate.get("cluster_interval")
        yield _within(ends, unit), look | {"linestyle": "-" if solid else ":"}


def _within(interval: Sequence[float], unit: Unit) -> list[float]:
    return [unit.scale * min(unit.high, max(unit.low, end)) for end in interval]


def _value(rate: Rate, unit: Unit) -> str:
    if rate["rate"] is None:
        return f"not defined (n {rate['n']:,})"
    value = unit.scale * rate["rate"]
    digits = 2 if unit is SHARE and value < 10 else unit.digits
    size = f"n {rate['n']:,}" if rate.get("count") is None else f"{rate['count']:,}/{rate['n']:,}"
    return f"{value:.{digits}f}{unit.sign} ({size})"


def top(rate: Rate, unit: Unit = SHARE) -> float:
    """Largest value that a point or a bar draws."""
    return min(unit.high, ends_of(rate)[1])


def ends_of(rate: Rate) -> tuple[float, float]:
    """Least and largest of a value and its interval."""
    ends = [rate["rate"] or 0.0, *(tables.interval_of(rate) or ())]
    return float(min(ends)), float(max(ends))


def row(rate: Rate) -> dict[str, Any]:
    """Value, counts and intervals under the names of ``COLUMNS``, as far as there are any."""
    row = {"value": rate["rate"], "count": rate.get("count"), "n": rate["n"]}
    for kind in ("paper", "cluster", "wilson", "two_way"):
        ends = rate.get("wilson" if kind == "wilson" else f"{kind}_interval")
        row[f"{kind}_low"], row[f"{kind}_high"] = ends or (None, None)
    return row


def ends_row(
    two_way: Sequence[float] | None, by_latent: Sequence[float] | None
) -> dict[str, float | None]:
    """Both intervals under the names of ``ENDS``, as far as there are any."""
    pairs: list[Sequence[float | None]] = [ends or (None, None) for ends in (two_way, by_latent)]
    return dict(zip(ENDS, chain(*pairs), strict=True))


def rows(summary: Summary) -> list[dict[str, Any]]:
    """One row of a CSV per quantity; shares are 0 to 1, scores 0 to 100."""
    shown = [quantity for quantity in NAMES if quantity in summary]
    return [{"quantity": quantity, **row(rate_of(summary, quantity))} for quantity in shown]


def lost(title: str, counts: Mapping[str, int]) -> str:
    """A note on trials that left the denominators; empty where there are none."""
    reasons = {name: counts[name] for name in ("no_attempts", "failed") if counts[name]}
    listed = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in reasons.items())
    return f"{title}: not graded and left out: {listed}." if listed else ""
