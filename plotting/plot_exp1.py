"""Figure 2 of the paper: what restarts gain, and how often they happen, per model.

python plotting/plot_exp1.py [--results PATH ...] [--output DIR] [--exclude-degraded]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis import metrics
from esr.analysis.intervals import Interval
from esr.analysis.tables import summary_table
from esr.errors import UserError
from plotting import rates, style
from plotting.sources import Source, find_sources

EXPERIMENT = "experiment_01_esr"
NAME = "exp1_esr"

EDGES = np.arange(-105.0, 106.0, 10.0)
"""Bins of last minus first score, centred on multiples of ten, [22]."""

_RATES = (
    ("multi-attempt", "multi_attempt_rate"),
    ("ESR", "esr_rate"),
)


@dataclass(frozen=True)
class Panel:
    """One model's numbers: the row of the figure."""

    source: Source
    summary: dict[str, Any]
    left_out: int

    @property
    def title(self) -> str:
        """With a mark where the run is not complete."""
        status = self.source.status
        return self.source.title if status == "complete" else f"{self.source.title} ({status})"

    @property
    def counts(self) -> dict[str, int]:
        """Of trials."""
        counts: dict[str, int] = self.summary["counts"]
        return counts

    @property
    def bars(self) -> list[style.Bar]:
        """Multi-attempt rate and ESR rate."""
        return [_bar(label, self.summary[key], self.source.model) for label, key in _RATES]

    @property
    def histogram(self) -> np.ndarray:
        """Multi-attempt trials per bin: [21]."""
        return np.histogram(self.summary["score_changes"], EDGES)[0]


def panels(sources: Sequence[Source], exclude_degraded: bool = False) -> list[Panel]:
    """The numbers behind the figure, one entry per source."""
    made = []
    for source in sources:
        kept = [o for o in source.outcomes if not (exclude_degraded and o.degraded)]
        summary = metrics.summary(kept, source.seed)
        made.append(Panel(source, summary, len(source.outcomes) - len(kept)))
    return made


def _bar(label: str, rate: dict[str, Any], model: str) -> style.Bar:
    clustered = rate["cluster_interval"]
    thin = clustered or rate["wilson"]
    return style.Bar(
        label=label,
        value=float("nan") if rate["rate"] is None else rate["rate"],
        count=rate["count"],
        n=rate["n"],
        colour=style.colour(model),
        thick=Interval(*rate["paper_interval"]) if rate["paper_interval"] else None,
        thin=Interval(*thin) if thin else None,
        thin_dotted=clustered is None,
    )


def draw(sources: Sequence[Source], exclude_degraded: bool = False) -> Figure:
    """The figure: per model a histogram of score changes beside its two rates."""
    with style.look():
        return _draw(panels(sources, exclude_degraded))


def _draw(rows: Sequence[Panel]) -> Figure:
    organisms = [row.source.title for row in rows if row.source.organism]
    notes = _notes(rows)
    height = 1.3 * max(1, len(rows)) + 0.25 + 0.095 * style.note_lines(notes, style.COLUMN_WIDTH)
    figure = style.new_figure(height + (0.3 if organisms else 0.0))
    grid = figure.subplots(max(1, len(rows)), 2, squeeze=False, width_ratios=[1, 1.15])
    if not rows:
        for axes in grid[0]:
            style.empty_panel(axes, f"no complete run of {EXPERIMENT}")
    for row, (left, right) in zip(rows, grid, strict=False):
        _histogram(left, row)
        # Organisms are not to be compared with large models: each kind has its own axis.
        kin = [other for other in rows if other.source.organism == row.source.organism]
        _rates(right, row, 1.15 * max(bar.top for other in kin for bar in other.bars) or 1.0)
    if rows:
        grid[-1][0].set_xlabel("last score minus first")
        grid[-1][1].set_xlabel("% of graded trials")
    style.footnotes(figure, notes, organisms)
    return figure


def _histogram(axes: Axes, row: Panel) -> None:
    if not row.counts["multi"]:
        style.empty_panel(axes, "no multi-attempt trials")
    axes.set_title(row.title, loc="left", fontweight="bold", color=style.colour(row.source.model))
    if not row.counts["multi"]:
        return
    centres = (EDGES[:-1] + EDGES[1:]) / 2
    axes.bar(centres, row.histogram, width=9.0, color=style.colour(row.source.model), alpha=0.75)
    # Up to the highest bar only: the numbers stand above.
    axes.axvline(0, 0, 1 / 1.75, color=style.INK, linewidth=0.6, linestyle=(0, (3, 2)))
    axes.set_xlim(EDGES[0], EDGES[-1])
    axes.set_xticks([-100, -50, 0, 50, 100])
    axes.set_ylim(0, 1.75 * row.histogram.max())
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.set_ylabel("trials")
    axes.text(
        *(0.0, 1.0, _gain(row.summary)),
        transform=axes.transAxes,
        fontsize=style.SMALL - 0.4,
        va="top",
        linespacing=1.2,
    )


def _gain(summary: dict[str, Any]) -> str:
    """Conditional improvement and, beside it, its redraw null."""
    improved, null = summary["conditional_improvement_rate"], summary["redraw_null"]
    lines = [f" improved {_share(improved)}, n {improved['n']:,}"]
    if null["n"]:
        lines.append(f" redraw null {_share(null)}")
        excess, ends = null["excess"], null["excess_cluster_interval"]
        lines.append(f" excess {100 * excess:+.0f}{_ends(ends, signed=True)}")
    else:
        lines.append(" redraw null: not defined")
    return "\n".join(lines)


def _share(rate: dict[str, Any]) -> str:
    return f"{100 * rate['rate']:.0f} %{_ends(rate['cluster_interval'])}"


def _ends(interval: Sequence[float] | None, signed: bool = False) -> str:
    if interval is None:
        return ""
    sign = "+" if signed else ""
    return f" [{100 * interval[0]:{sign}.0f}, {100 * interval[1]:{sign}.0f}]"


def _rates(axes: Axes, row: Panel, limit: float) -> None:
    counts, score = row.counts, row.summary["mean_first_score"]
    if not counts["graded"]:
        style.empty_panel(axes, f"none of {counts['trials']:,} trials graded")
        return
    sem = "" if score["sem"] is None else f" ± {score['sem']:.1f} (SEM)"
    axes.set_title(
        f"{counts['graded']:,} trials, {row.summary['latents']:,} latents\n"
        f"first-attempt score {score['mean']:.1f}{sem}",
        loc="left",
        fontsize=style.SMALL - 0.4,
        linespacing=1.2,
    )
    style.horizontal_bars(axes, row.bars, limit)


def _notes(rows: Sequence[Panel]) -> list[str]:
    if not rows:
        return []
    notes = [
        "Bars: thick line 1.96 binomial SE (paper); thin line 95 % bootstrap over latents"
        + ("; dotted: Wilson, where the bootstrap does not vary." if _any_dotted(rows) else "."),
        "Redraw null: how often another first attempt under the same latent beats the first; "
        "excess: improved minus null, in points. In brackets: 95 %, bootstrap over latents.",
    ]
    for row in rows:
        notes.append(rates.lost(row.source.title, row.counts))
        if chosen := (row.source.data.get("selection") or {}).get("note"):
            notes.append(f"{row.source.title}: {chosen}.")
        excluded = row.summary["redraw_null"]["excluded"]
        if excluded:
            notes.append(
                f"{row.source.title}: {excluded:,} without a redraw, not in null or excess."
            )
    if any(row.left_out for row in rows):
        told = ", ".join(f"{row.source.title} {row.left_out:,}" for row in rows)
        notes.append(f"Degraded responses left out: {told}.")
    notes += rates.judges([row.source for row in rows])
    return [note for note in notes if note]


def _any_dotted(rows: Sequence[Panel]) -> bool:
    return any(bar.thin_dotted for row in rows for bar in row.bars)


def table(sources: Sequence[Source], exclude_degraded: bool = False) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    rows: list[dict[str, Any]] = []
    for panel in panels(sources, exclude_degraded):
        run = {"model": panel.source.model, "title": panel.source.title}
        run["source"] = panel.source.path.name
        rows += [{**run, **row} for row in _quantities(panel)]
        bins = zip(EDGES[:-1], EDGES[1:], panel.histogram, strict=True)
        for low, high, count in bins:
            name = {"quantity": "trials_with_score_change", "bin_low": low, "bin_high": high}
            rows.append({**run, **name, "count": int(count), "n": panel.counts["multi"]})
    return pd.DataFrame(rows, columns=_CSV)


_CSV = [
    *("model", "title", "source", "quantity", "value", "count", "n", "bin_low", "bin_high"),
    *("paper_low", "paper_high", "cluster_low", "cluster_high", "wilson_low", "wilson_high"),
]


def _quantities(panel: Panel) -> list[dict[str, Any]]:
    summary, null = panel.summary, panel.summary["redraw_null"]
    shown: list[tuple[str, Any, dict[str, Any]]] = [
        (key, summary[key]["rate"], summary[key])
        for key in ("multi_attempt_rate", "esr_rate", "conditional_improvement_rate")
    ]
    score = summary["mean_first_score"]
    shown.append(("mean_first_score", score["mean"], score))
    shown.append(("redraw_null", null["rate"], {k: null[k] for k in ("n", "cluster_interval")}))
    excess = {"n": null["n"], "cluster_interval": null["excess_cluster_interval"]}
    shown.append(("improved_minus_null", null["excess"], excess))
    rows = []
    for name, value, about in shown:
        row = {"quantity": name, "value": value, "n": about["n"], "count": about.get("count")}
        for kind in ("paper", "cluster", "wilson"):
            ends = about.get("wilson" if kind == "wilson" else f"{kind}_interval")
            row[f"{kind}_low"], row[f"{kind}_high"] = ends or (None, None)
        rows.append(row)
    totals = {**panel.counts, "latents": summary["latents"], "left_out": panel.left_out}
    return rows + [{"quantity": key, "value": value} for key, value in totals.items()]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    parser = argparse.ArgumentParser(prog="plot_exp1.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="results folder, run folders or results files (default: data/results)",
    )
    parser.add_argument("--output", type=Path, default=style.FIGURES, help="folder for the figure")
    parser.add_argument(
        "--exclude-degraded", action="store_true", help="leave out responses that repeat a word"
    )
    options = parser.parse_args(argv)
    try:
        sources = find_sources(EXPERIMENT, options.results)
        figure = draw(sources, options.exclude_degraded)
        numbers = table(sources, options.exclude_degraded)
        paths = style.save(figure, numbers, options.output, NAME)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if sources:
        for row in panels(sources, options.exclude_degraded):
            print(summary_table(row.title, row.summary, row.source.organism))
    else:
        print(f"no complete run of {EXPERIMENT}; run: python -m {EXPERIMENT} tiny", file=sys.stderr)
    print("\n".join(str(path) for path in paths))
    return 0 if sources else 1


if __name__ == "__main__":
    sys.exit(main())
