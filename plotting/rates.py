"""A rate of :func:`esr.analysis.metrics.summary` as a bar, as a point, and as a row of a CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from plotting import style

Rate = Mapping[str, Any]
Summary = Mapping[str, Any]

QUANTITIES = {
    "multi_attempt_rate": "multi-attempt rate",
    "conditional_improvement_rate": "improved, given multi-attempt",
    "esr_rate": "ESR rate",
}
"""Names in a summary, and in a figure."""

MULTI_AND_ESR = ("multi_attempt_rate", "esr_rate")
"""The two rates of which most figures are made."""

INTERVALS = (
    "Thick: 1.96 binomial SE (paper); thin: 95 % bootstrap over latents; dotted: Wilson, where "
    "the bootstrap does not vary."
)

COLUMNS = [
    *("value", "count", "n", "paper_low", "paper_high"),
    *("cluster_low", "cluster_high", "wilson_low", "wilson_high"),
]


class Bar(NamedTuple):
    """A rate with its label and its colour."""

    label: str
    rate: Rate
    colour: str


def horizontal_bars(axes: Axes, bars: Sequence[Bar], limit: float) -> None:
    """Horizontal bars in per cent, from top to bottom, each under its label, value and n.

    Args:
        axes: emptied of y ticks.
        bars: a rate that is not defined draws nothing but says so.
        limit: right end of the axis, as a share.
    """
    for row, (label, rate, colour) in enumerate(reversed(bars)):
        axes.annotate(
            f"{label}: {_value(rate)}",
            xy=(0.0, row + 0.24),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=style.SMALL,
            va="bottom",
        )
        if rate["rate"] is None:
            continue
        axes.barh(row, 100 * rate["rate"], height=0.4, color=colour, alpha=0.75, linewidth=0)
        for ends, look in _lines(rate, "|", style.FAINT):
            axes.plot(ends, [row, row], **look)
    axes.set_ylim(-0.4, len(bars) - 0.25)
    axes.set_xlim(0, 100 * limit)
    axes.set_yticks([])
    # Ticks that depend on the width would come after the room for their labels is found.
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def point(axes: Axes, x: float, rate: Rate, colour: str) -> None:
    """A point in per cent with both intervals; nothing where the rate is not defined."""
    if rate["rate"] is None:
        return
    for ends, look in _lines(rate, "_", "#c8c8c8"):
        axes.plot([x, x], ends, **look)
    axes.plot([x], [100 * rate["rate"]], "o", color=colour, markersize=3.6, zorder=5)


def _lines(rate: Rate, cap: str, thick: str) -> Iterator[tuple[list[float], dict[str, Any]]]:
    """The ends of both intervals in per cent, and how they are drawn."""
    if rate["paper_interval"]:
        look = {"color": thick, "linewidth": 3.2, "solid_capstyle": "butt", "zorder": 3}
        yield _percent(rate["paper_interval"]), look
    if thin := _thin(rate):
        look = {"color": style.INK, "linewidth": 0.9, "zorder": 4, "marker": cap}
        look |= {"markersize": 4.5, "markeredgewidth": 0.9}
        yield _percent(thin), look | {"linestyle": "-" if rate["cluster_interval"] else ":"}


def _percent(interval: Sequence[float]) -> list[float]:
    return [100 * min(1.0, max(0.0, end)) for end in interval]


def _thin(rate: Rate) -> Sequence[float] | None:
    """The clustered interval, or Wilson's where the bootstrap does not vary."""
    interval: Sequence[float] | None = rate["cluster_interval"] or rate["wilson"]
    return interval


def _value(rate: Rate) -> str:
    if rate["rate"] is None:
        return "none graded"
    places = 2 if rate["rate"] < 0.1 else 1
    return f"{100 * rate['rate']:.{places}f} % ({rate['count']:,}/{rate['n']:,})"


def top(rate: Rate) -> float:
    """Largest share that a point or a bar draws."""
    ends = [interval[1] for interval in (rate["paper_interval"], _thin(rate)) if interval]
    return min(1.0, max([rate["rate"] or 0.0, *ends]))


def row(rate: Rate) -> dict[str, Any]:
    """Value, counts and intervals under the names of ``COLUMNS``, as far as there are any."""
    row = {"value": rate["rate"], "count": rate.get("count"), "n": rate["n"]}
    for kind in ("paper", "cluster", "wilson"):
        ends = rate.get("wilson" if kind == "wilson" else f"{kind}_interval")
        row[f"{kind}_low"], row[f"{kind}_high"] = ends or (None, None)
    return row


def rows(summary: Summary) -> list[dict[str, Any]]:
    """One row of a CSV per quantity, and one for the redraw null."""
    null = summary["redraw_null"]
    return [
        *({"quantity": quantity, **row(summary[quantity])} for quantity in QUANTITIES),
        {"quantity": "redraw_null", "value": null["rate"], "n": null["n"]},
    ]


def lost(title: str, counts: Mapping[str, int]) -> str:
    """A note on trials that left the denominators; empty where there are none."""
    reasons = left_out(counts)
    return f"{title}: not graded and left out: {reasons}." if reasons else ""


def left_out(counts: Mapping[str, int]) -> str:
    """How many trials were not graded, and why; empty where all were."""
    reasons = {name: counts[name] for name in ("no_attempts", "failed") if counts[name]}
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in reasons.items())
