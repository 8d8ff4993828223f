"""A rate of :func:`esr.analysis.metrics.summary` as a bar, as a point, and as a row of a CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from esr.analysis.intervals import Interval
from plotting import style
from plotting.sources import Source, differing_settings

QUANTITIES = {
    "multi_attempt_rate": "multi-attempt rate",
    "conditional_improvement_rate": "improved, given multi-attempt",
    "esr_rate": "ESR rate",
}
"""Names in a summary, and in a figure."""

INTERVALS = (
    "Thick: 1.96 binomial SE (paper); thin: 95 % bootstrap over latents; dotted: Wilson, where "
    "the bootstrap does not vary."
)

COLUMNS = [
    *("value", "count", "n", "paper_low", "paper_high"),
    *("cluster_low", "cluster_high", "wilson_low", "wilson_high"),
]


def bar(label: str, rate: Mapping[str, Any], colour: str) -> style.Bar:
    """A horizontal bar with the paper's interval and the clustered one."""
    thin, dotted = _thin(rate)
    return style.Bar(
        label=label,
        value=float("nan") if rate["rate"] is None else rate["rate"],
        count=rate["count"],
        n=rate["n"],
        colour=colour,
        thick=Interval(*rate["paper_interval"]) if rate["paper_interval"] else None,
        thin=Interval(*thin) if thin else None,
        thin_dotted=dotted,
    )


def point(axes: Axes, x: float, rate: Mapping[str, Any], colour: str) -> None:
    """A point in per cent with both intervals; nothing where the rate is not defined."""
    if rate["rate"] is None:
        return
    thin, dotted = _thin(rate)
    if rate["paper_interval"]:
        low, high = (100 * min(1.0, max(0.0, end)) for end in rate["paper_interval"])
        axes.plot([x, x], [low, high], color="#c8c8c8", linewidth=3.2, solid_capstyle="butt")
    if thin:
        ends = [100 * end for end in thin]
        line = ":" if dotted else "-"
        axes.plot([x, x], ends, color=style.INK, linewidth=0.8, linestyle=line)
        axes.plot([x, x], ends, "_", color=style.INK, markersize=4, markeredgewidth=0.8)
    axes.plot([x], [100 * rate["rate"]], "o", color=colour, markersize=3.6, zorder=5)


def top(rate: Mapping[str, Any]) -> float:
    """Largest share that a point or a bar draws."""
    ends = [pair[1] for pair in (rate["paper_interval"], _thin(rate)[0]) if pair]
    return min(1.0, max([rate["rate"] or 0.0, *ends]))


def _thin(rate: Mapping[str, Any]) -> tuple[Sequence[float] | None, bool]:
    """The clustered interval, or Wilson's, and whether it is the latter."""
    clustered = rate["cluster_interval"]
    return (clustered, False) if clustered else (rate["wilson"], True)


def row(rate: Mapping[str, Any]) -> dict[str, Any]:
    """Value, counts and intervals under the names of ``COLUMNS``."""
    made = {"value": rate["rate"], "count": rate["count"], "n": rate["n"]}
    for kind in ("paper", "cluster", "wilson"):
        ends = rate["wilson" if kind == "wilson" else f"{kind}_interval"]
        made[f"{kind}_low"], made[f"{kind}_high"] = ends or (None, None)
    return made


def lost(title: str, counts: Mapping[str, int]) -> str:
    """A note on trials that left the denominators; empty where there are none."""
    told = left_out(counts)
    return f"{title}: not graded and left out: {told}." if told else ""


def left_out(counts: Mapping[str, int]) -> str:
    """How many trials were not graded, and why; empty where all were."""
    found = {name: counts[name] for name in ("no_attempts", "failed") if counts[name]}
    return ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in found.items())


def judges(sources: Sequence[Source]) -> list[str]:
    """Notes on the judge, or on all settings in which the runs differ."""
    named = dict.fromkeys(str(s.settings.get("judge_id") or "not recorded") for s in sources)
    notes = [f"Judge: {next(iter(named))}."] if len(named) == 1 else []
    return [*notes, differing_settings(sources)]
