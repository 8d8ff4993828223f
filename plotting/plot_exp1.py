"""Figure 2 of the paper: what restarts gain, and how often they happen, per model.

python plotting/plot_exp1.py [--results PATH ...] [--output DIR] [--exclude-degraded]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from esr.analysis import metrics
from esr.analysis.tables import interval_of, summary_table
from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn, Panel, Row
from plotting.sources import Source

EXPERIMENT = "experiment_01_esr"
NAME = "exp1_esr"

EDGES = np.arange(-105.0, 106.0, 10.0)
"""Bins of last minus first score, centred on multiples of ten, [22]."""

LABELS = {"multi_attempt_rate": "multi-attempt", "esr_rate": "ESR"}

NULL = (
    "N1, N2: how often another first attempt under the same latent beats the first, drawn from all "
    "of them or from those that were not given up. They bracket what chance gives; neither says "
    "that restarting helps. Excess: improved minus N1 or N2, in points, 95 % two-way."
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


def _row(model: Model, models: Sequence[Model]) -> Row:
    """A histogram of score changes, the two rates, and the improvement rate beside its null."""
    summary, key = model.summary, model.source.model
    counts, colour = summary["counts"], style.colour(key)
    # Organisms are not to be compared with large models: each kind has its own axis.
    kin = [other for other in models if other.source.organism == model.source.organism]
    limit = rates.limit(other.summary[quantity] for other in kin for quantity in LABELS)
    shown = [rates.Bar(label, summary[name], colour) for name, label in LABELS.items()]
    gain = [
        rates.Bar("improved", summary["conditional_improvement_rate"], colour),
        rates.Bar("N1, all firsts", summary[rates.N1], style.BASELINE),
        rates.Bar("N2, unabandoned", summary[rates.N2], style.BASELINE),
    ]
    score = summary["mean_first_score"]
    sem = "" if score["sem"] is None else f" ± {score['sem']:.1f} (SEM)"
    mean = f"first-attempt score {score['mean']:.1f}{sem}" if counts["graded"] else ""
    size = f"{counts['graded']:,} trials, {summary['latents']:,} latents"
    ungraded = "" if counts["graded"] else f"none of {counts['trials']:,} trials graded"
    single = "" if counts["multi"] else "no multi-attempt trials"
    return 1.3, [
        Panel(
            partial(_histogram, model=model),
            f"{figure.title(model.source)}\n{size}",
            *(key, "last score minus first", "trials", single),
        ),
        Panel(
            partial(rates.bars, shown=shown, limit=limit),
            *(mean, "", "% of graded trials", "", ungraded),
        ),
        Panel(
            partial(rates.bars, shown=gain, limit=1.0),
            *("", "", "% of multi-attempt trials", "", single),
        ),
    ]


def _histogram(axes: Axes, model: Model) -> None:
    colour, middles = style.colour(model.source.model), (EDGES[:-1] + EDGES[1:]) / 2
    axes.bar(middles, model.histogram, width=9.0, color=colour, alpha=0.75)
    axes.axvline(0, color=style.INK, linewidth=0.6, linestyle=style.DASHED)
    axes.set_xlim(EDGES[0], EDGES[-1])
    axes.set_xticks([-100, -50, 0, 50, 100])
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _excess(summary: Mapping[str, Any]) -> str:
    return "; ".join(
        _above(name, summary[key]) for name, key in (("N1", rates.N1), ("N2", rates.N2))
    )


def _above(name: str, null: Mapping[str, Any]) -> str:
    if not null["n"]:
        return f"{name} not defined"
    ends = interval_of(null, "excess_")
    interval = f" [{100 * ends[0]:+.0f}, {100 * ends[1]:+.0f}]" if ends else ""
    without = f", {null['excluded']:,} trials without a redraw" if null["excluded"] else ""
    return f"excess over {name} {100 * null['excess']:+.0f}{interval}{without}"


def _notes(models: Sequence[Model]) -> Iterator[str]:
    yield from (rates.INTERVALS, NULL)
    for model in models:
        title = model.source.title
        yield f"{title}: {_excess(model.summary)}."
        yield rates.lost(title, model.summary["counts"])
        if selection := (model.source.data.get("selection") or {}).get("note"):
            yield f"{title}: {selection}."
    if any(model.left_out for model in models):
        degraded = ", ".join(f"{model.source.title} {model.left_out:,}" for model in models)
        yield f"Degraded responses left out: {degraded}."


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


def _quantities(model: Model) -> Iterator[dict[str, Any]]:
    summary = model.summary
    shown = ("multi_attempt_rate", "esr_rate", "conditional_improvement_rate", rates.SCORE)
    quantities = {name: rates.rate_of(summary, name) for name in (*shown, rates.N1, rates.N2)}
    for name, key in (("improved_minus_null", rates.N1), ("improved_minus_unabandoned", rates.N2)):
        null = summary[key]
        ends = {k: null[f"excess_{k}"] for k in ("cluster_interval", "two_way_interval")}
        quantities[name] = {"rate": null["excess"], "n": null["n"], **ends}
    totals = {**summary["counts"], "latents": summary["latents"], "left_out": model.left_out}
    yield from ({"quantity": name, **rates.row(rate)} for name, rate in quantities.items())
    yield from ({"quantity": name, "value": value} for name, value in totals.items())


def figures(sources: Sequence[Source], exclude_degraded: bool = False) -> list[Drawn]:
    """What the command saves and prints."""
    models = [_model(source, exclude_degraded) for source in sources]
    drawn = figure.compose(
        *(NAME, EXPERIMENT, [_row(model, models) for model in models], _table(models)),
        about="What restarts gain, and how often they happen, per model (Figure 2 of the paper).",
        sources=sources,
        notes=_notes(models),
        width=style.PAGE_WIDTH,
        report="\n".join(
            summary_table(figure.title(m.source), m.summary, m.source.organism) for m in models
        ),
    )
    return [drawn]


FLAGS = {"exclude_degraded": "leave out responses that repeat a word"}

main = figure_command(EXPERIMENT, __doc__, figures, flags=FLAGS)

if __name__ == "__main__":
    raise SystemExit(main())
