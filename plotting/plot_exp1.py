"""Figure 2 of the paper: what restarts gain, and how often they happen, per model.

python plotting/plot_exp1.py [--results PATH ...] [--output DIR] [--exclude-degraded]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from esr.analysis import metrics
from esr.analysis.tables import summary_table
from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.sources import Source

EXPERIMENT = "experiment_01_esr"
NAME = "exp1_esr"

EDGES = np.arange(-105.0, 106.0, 10.0)
"""Bins of last minus first score, centred on multiples of ten, [22]."""

LABELS = {"multi_attempt_rate": "multi-attempt", "esr_rate": "ESR"}

NULL = (
    "Redraw null: how often another first attempt under the same latent beats the first; "
    "excess: improved minus null, in points. In brackets: 95 %, bootstrap over latents."
)


@dataclass(frozen=True)
class Model:
    """One model's numbers: a row of the figure.

    Attributes:
        source: its run.
        summary: see :func:`esr.analysis.metrics.summary`.
        left_out: degraded trials that do not count.
    """

    source: Source
    summary: Mapping[str, Any]
    left_out: int

    @property
    def histogram(self) -> np.ndarray:
        """Multi-attempt trials per bin: [21]."""
        return np.histogram(self.summary["score_changes"], EDGES)[0]


def _model(source: Source, exclude_degraded: bool) -> Model:
    counted = [o for o in source.outcomes if not (exclude_degraded and o.degraded)]
    summary = metrics.summary(counted, source.seed)
    return Model(source, summary, len(source.outcomes) - len(counted))


@style.look()
def _draw(models: Sequence[Model]) -> Figure:
    """Per model a histogram of score changes beside its two rates."""
    sources = [model.source for model in models]
    notes = [rates.INTERVALS, NULL, *_notes(models), *figure.judges(sources)]
    picture, grid = figure.grid(
        *(EXPERIMENT, [1.4] * len(models), 2),
        sources=sources,
        notes=notes,
        width_ratios=[1, 1.15],
    )
    for model, (left, right) in zip(models, grid, strict=True):
        _histogram(left, model)
        # Organisms are not to be compared with large models: each kind has its own axis.
        kin = [other for other in models if other.source.organism == model.source.organism]
        tops = [rates.top(other.summary[quantity]) for other in kin for quantity in LABELS]
        _rates(right, model, min(1.0, 1.15 * max(tops)) or 1.0)
    if models:
        grid[-1][0].set_xlabel("last score minus first")
        grid[-1][1].set_xlabel("% of graded trials")
    return picture


def _histogram(axes: Axes, model: Model) -> None:
    colour, counts = style.colour(model.source.model), model.histogram
    if model.summary["counts"]["multi"]:
        axes.bar((EDGES[:-1] + EDGES[1:]) / 2, counts, width=9.0, color=colour, alpha=0.75)
        # Up to the highest bar only: the numbers stand above.
        axes.axvline(0, 0, 1 / 1.75, color=style.INK, linewidth=0.6, linestyle=style.DASHED)
        axes.set_xlim(EDGES[0], EDGES[-1])
        axes.set_xticks([-100, -50, 0, 50, 100])
        axes.set_ylim(0, 1.75 * counts.max())
        axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        axes.set_ylabel("trials")
        axes.text(
            *(0.02, 1.0, _gain(model.summary)),
            transform=axes.transAxes,
            fontsize=style.SMALL - 0.4,
            va="top",
            linespacing=1.2,
        )
    else:
        style.empty_panel(axes, "no multi-attempt trials")
    figure.heading(axes, figure.title(model.source), model.source.model)


def _gain(summary: Mapping[str, Any]) -> str:
    """Conditional improvement and, beside it, its redraw null."""
    improved, null = summary["conditional_improvement_rate"], summary["redraw_null"]
    lines = [f"improved {_share(improved)}, n {improved['n']:,}"]
    if null["n"]:
        lines.append(f"redraw null {_share(null)}")
        ends = _ends(null["excess_cluster_interval"], "+")
        lines.append(f"excess {100 * null['excess']:+.0f}{ends}")
    else:
        lines.append("redraw null: not defined")
    return "\n".join(lines)


def _share(rate: Mapping[str, Any]) -> str:
    return f"{100 * rate['rate']:.0f} %{_ends(rate['cluster_interval'])}"


def _ends(interval: Sequence[float] | None, sign: str = "") -> str:
    if interval is None:
        return ""
    return f" [{100 * interval[0]:{sign}.0f}, {100 * interval[1]:{sign}.0f}]"


def _rates(axes: Axes, model: Model, limit: float) -> None:
    counts, score = model.summary["counts"], model.summary["mean_first_score"]
    if not counts["graded"]:
        style.empty_panel(axes, f"none of {counts['trials']:,} trials graded")
        return
    colour = style.colour(model.source.model)
    bars = [rates.Bar(label, model.summary[name], colour) for name, label in LABELS.items()]
    rates.horizontal_bars(axes, bars, limit)
    sem = "" if score["sem"] is None else f" ± {score['sem']:.1f} (SEM)"
    axes.set_title(
        f"{counts['graded']:,} trials, {model.summary['latents']:,} latents\n"
        f"first-attempt score {score['mean']:.1f}{sem}",
        loc="left",
        fontsize=style.SMALL - 0.4,
        linespacing=1.2,
    )


def _notes(models: Sequence[Model]) -> list[str]:
    notes = []
    for model in models:
        title = model.source.title
        notes.append(rates.lost(title, model.summary["counts"]))
        if selection := (model.source.data.get("selection") or {}).get("note"):
            notes.append(f"{title}: {selection}.")
        if excluded := model.summary["redraw_null"]["excluded"]:
            notes.append(f"{title}: {excluded:,} without a redraw, not in null or excess.")
    if any(model.left_out for model in models):
        degraded = ", ".join(f"{model.source.title} {model.left_out:,}" for model in models)
        notes.append(f"Degraded responses left out: {degraded}.")
    return notes


_COLUMNS = [
    *("model", "title", "source", "quantity", "value", "count", "n", "bin_low", "bin_high"),
    *rates.COLUMNS[3:],
]


def _table(models: Sequence[Model]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    rows: list[dict[str, Any]] = []
    for model in models:
        source = model.source
        run = {"model": source.model, "title": source.title, "source": source.path.name}
        rows += [{**run, **row} for row in _quantities(model)]
        for low, high, count in zip(EDGES[:-1], EDGES[1:], model.histogram, strict=True):
            part = {"quantity": "trials_with_score_change", "bin_low": low, "bin_high": high}
            n = model.summary["counts"]["multi"]
            rows.append({**run, **part, "count": int(count), "n": n})
    return pd.DataFrame(rows, columns=_COLUMNS)


def _quantities(model: Model) -> list[dict[str, Any]]:
    summary, null = model.summary, model.summary["redraw_null"]
    score = {**summary["mean_first_score"], "rate": summary["mean_first_score"]["mean"]}
    excess = {"rate": null["excess"], "n": null["n"]}
    quantities = {
        **{name: summary[name] for name in ("multi_attempt_rate", "esr_rate")},
        "conditional_improvement_rate": summary["conditional_improvement_rate"],
        "mean_first_score": score,
        "redraw_null": null,
        "improved_minus_null": excess | {"cluster_interval": null["excess_cluster_interval"]},
    }
    totals = {**summary["counts"], "latents": summary["latents"], "left_out": model.left_out}
    return [
        *({"quantity": name, **rates.row(rate)} for name, rate in quantities.items()),
        *({"quantity": name, "value": value} for name, value in totals.items()),
    ]


def figures(sources: Sequence[Source], exclude_degraded: bool = False) -> list[Drawn]:
    """What the command saves and prints."""
    models = [_model(source, exclude_degraded) for source in sources]
    report = "\n".join(
        summary_table(figure.title(m.source), m.summary, m.source.organism) for m in models
    )
    return [Drawn(NAME, _draw(models), _table(models), report)]


FLAGS = {"exclude_degraded": "leave out responses that repeat a word"}

main = figure_command(EXPERIMENT, __doc__, figures, flags=FLAGS)

if __name__ == "__main__":
    raise SystemExit(main())
