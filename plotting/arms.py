"""Arms of a model side by side: multi-attempt rate and ESR rate, one row of bars per arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from esr.analysis import tables
from plotting import rates, style
from plotting.sources import Source

SHOWN = ("multi_attempt_rate", "esr_rate")
BASELINE_COLOUR = "#9a9a9a"


@dataclass(frozen=True)
class Arm:
    """One condition.

    Attributes:
        name: as the figure has it.
        summary: see :func:`esr.analysis.metrics.summary`.
        comparison: with the baseline, by quantity; None for the baseline itself.
        baseline: whether it is drawn in grey.
        note: said of it below the figure.
    """

    name: str
    summary: Mapping[str, Any]
    comparison: Mapping[str, Any] | None = None
    baseline: bool = False
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """One run: a row of the figure.

    Attributes:
        source: the run.
        title: of the row.
        arms: from top to bottom.
        notes: said below the figure.
    """

    source: Source
    title: str
    arms: Sequence[Arm]
    notes: Sequence[str] = ()


def draw(panels: Sequence[Panel], experiment: str) -> Figure:
    """A row per run, a column per rate."""
    organisms = list(dict.fromkeys(p.source.title for p in panels if p.source.organism))
    notes = _notes(panels)
    lines = style.note_lines(notes, style.PAGE_WIDTH)
    bars = max([len(panel.arms) for panel in panels], default=2)
    height = (0.35 + 0.36 * bars) * max(1, len(panels)) + 0.3 + 0.1 * lines
    with style.look():
        figure = style.new_figure(height + (0.3 if organisms else 0.0), style.PAGE_WIDTH)
        grid = figure.subplots(max(1, len(panels)), 2, squeeze=False)
        if not panels:
            for axes in grid[0]:
                style.empty_panel(axes, f"no complete run of {experiment}")
        for panel, row in zip(panels, grid, strict=False):
            kin = [p for p in panels if p.source.organism == panel.source.organism]
            for axes, quantity in zip(row, SHOWN, strict=True):
                tops = [rates.top(arm.summary[quantity]) for p in kin for arm in p.arms]
                made = [_bar(panel, arm, quantity) for arm in panel.arms]
                style.horizontal_bars(axes, made, min(1.0, 1.1 * max(tops)) or 1.0)
                axes.set_xlabel("% of graded trials")
                axes.set_title(
                    f"{panel.title}: {rates.QUANTITIES[quantity]}",
                    loc="left",
                    fontweight="bold",
                    color=style.colour(panel.source.model),
                )
        style.footnotes(figure, notes, organisms)
    return figure


def _bar(panel: Panel, arm: Arm, quantity: str) -> style.Bar:
    colour = BASELINE_COLOUR if arm.baseline else style.colour(panel.source.model)
    return rates.bar(arm.name, arm.summary[quantity], colour)


def _notes(panels: Sequence[Panel]) -> list[str]:
    if not panels:
        return []
    notes = [rates.INTERVALS]
    for panel in panels:
        prefix = f"{panel.title}, " if len(panels) > 1 else ""
        notes += [note for note in panel.notes if note]
        for arm in panel.arms:
            lost = rates.left_out(arm.summary["counts"])
            told = [_compared(arm), arm.note, lost and f"left out: {lost}"]
            notes.append(f"{prefix}{arm.name}: {'; '.join(part for part in told if part)}.")
    return [note for note in [*notes, *rates.judges([p.source for p in panels])] if note]


def _compared(arm: Arm) -> str:
    """First-attempt score; and against the baseline the multi-attempt rate, clustered by latent."""
    told = f"first-attempt score {tables.decimal(arm.summary['mean_first_score']['mean'], 1)}"
    if arm.comparison is None:
        return told
    found = arm.comparison["multi_attempt_rate"]
    told += f"; multi-attempt rate {tables.risk_ratio(found)} x baseline"
    paired = found.get("paired")
    return f"{told}, McNemar p {paired['test']['p_value']:.2g}" if paired else told


def table(panels: Sequence[Panel]) -> pd.DataFrame:
    """The plotted numbers and the comparisons of the notes; shares are 0 to 1."""
    made = []
    for panel in panels:
        for arm in panel.arms:
            for quantity in SHOWN:
                row = {
                    "model": panel.source.model,
                    "title": panel.title,
                    "source": panel.source.path.name,
                    "arm": arm.name,
                    "quantity": quantity,
                    **rates.row(arm.summary[quantity]),
                }
                if arm.comparison is not None:
                    row |= _comparison_row(arm.comparison[quantity])
                made.append(row)
    return pd.DataFrame(made, columns=_COLUMNS)


_COLUMNS = [
    *("model", "title", "source", "arm", "quantity", *rates.COLUMNS),
    *("risk_ratio", "risk_ratio_low", "risk_ratio_high"),
    *("difference", "difference_low", "difference_high", "mcnemar_p", "z_p"),
]


def _comparison_row(found: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in ("risk_ratio", "difference"):
        ends = found[f"{name}_interval"] or (None, None)
        row |= {name: found[name], f"{name}_low": ends[0], f"{name}_high": ends[1]}
    paired, unpaired = found.get("paired"), found.get("unpaired")
    row["mcnemar_p"] = paired["test"]["p_value"] if paired else None
    row["z_p"] = unpaired["p_value"] if unpaired else None
    return row
