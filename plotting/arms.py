"""Arms of a run side by side, a bar per arm: the figures of experiments 3, 5, 8 and 10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from esr.analysis import tables
from plotting import figure, rates, style
from plotting.sources import Source


@dataclass(frozen=True)
class Arm:
    """One condition.

    Attributes:
        name: as the figure has it.
        summary: see :func:`esr.analysis.metrics.summary`.
        comparison: with the baseline, by quantity; None for the baseline itself.
        colour: the model's where empty.
        note: said of it below the figure.
        details: by quantity, what follows the name.
    """

    name: str
    summary: rates.Summary
    comparison: Mapping[str, Any] | None = None
    colour: str = ""
    note: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """One run.

    Attributes:
        source: the run.
        title: of its panels.
        arms: from top to bottom; without arms the panel says ``missing``.
        notes: said below the figure.
        missing: see ``arms``.
    """

    source: Source
    title: str
    arms: Sequence[Arm]
    notes: Sequence[str] = ()
    missing: str = ""


@style.look()
def draw(
    panels: Sequence[Panel],
    experiment: str,
    notes: Sequence[str] = (),
    quantities: Sequence[str] = rates.MULTI_AND_ESR,
    columns: int = 2,
) -> Figure:
    """A panel per run and rate, the rates of a run beside each other, or below in one column."""
    cells = [(panel, quantity) for panel in panels for quantity in quantities]
    heights = [0.55 + 0.27 * max(1, len(panel.arms)) for panel, _ in cells[::columns]]
    picture, grid = figure.grid(
        experiment,
        heights,
        columns,
        sources=[panel.source for panel in panels],
        notes=[*notes, *_notes(panels)],
        width=style.PAGE_WIDTH if columns > 1 else style.COLUMN_WIDTH,
    )
    for axes, (panel, quantity) in zip(grid.flat, cells, strict=True):
        model = panel.source.model
        if panel.arms:
            bars = [
                rates.Bar(
                    arm.name + arm.details.get(quantity, ""),
                    arm.summary[quantity],
                    arm.colour or style.colour(model),
                )
                for arm in panel.arms
            ]
            rates.horizontal_bars(axes, bars, _limit(panels, panel, quantity))
            given = quantity == "conditional_improvement_rate"
            axes.set_xlabel(f"% of {'multi-attempt' if given else 'graded'} trials")
        else:
            style.empty_panel(axes, panel.missing)
        figure.heading(axes, f"{panel.title}: {rates.QUANTITIES[quantity]}", model)
    return picture


def _limit(panels: Sequence[Panel], panel: Panel, quantity: str) -> float:
    """Right end of an axis. Organisms are not to be compared with large models: each kind's own."""
    kin = [other for other in panels if other.source.organism == panel.source.organism]
    tops = [rates.top(arm.summary[quantity]) for other in kin for arm in other.arms]
    return min(1.0, 1.1 * max(tops)) or 1.0


def _notes(panels: Sequence[Panel]) -> list[str]:
    notes = [rates.INTERVALS]
    for panel in panels:
        prefix = f"{panel.title}, " if len(panels) > 1 else ""
        notes += panel.notes
        for arm in panel.arms:
            lost = rates.left_out(arm.summary["counts"])
            parts = [*_scores(arm), arm.note, lost and f"not graded and left out: {lost}"]
            notes.append(f"{prefix}{arm.name}: {'; '.join(part for part in parts if part)}.")
    return notes + figure.judges([panel.source for panel in panels])


def _scores(arm: Arm) -> list[str]:
    """First-attempt score; and against the baseline the multi-attempt rate, clustered by latent."""
    score = f"first-attempt score {tables.decimal(arm.summary['mean_first_score']['mean'], 1)}"
    if arm.comparison is None:
        return [score]
    compared = arm.comparison["multi_attempt_rate"]
    ratio = f"multi-attempt rate {tables.risk_ratio(compared)} x baseline"
    if paired := compared.get("paired"):
        ratio += f", McNemar p {paired['test']['p_value']:.2g}"
    return [score, ratio]


def table(panels: Sequence[Panel]) -> pd.DataFrame:
    """The plotted numbers and the comparisons of the notes; shares are 0 to 1."""
    rows = [
        {
            "model": panel.source.model,
            "title": panel.title,
            "source": panel.source.path.name,
            "arm": arm.name,
            "quantity": quantity,
            **rates.row(arm.summary[quantity]),
            **(_comparison(arm.comparison[quantity]) if arm.comparison else {}),
        }
        for panel in panels
        for arm in panel.arms
        for quantity in rates.MULTI_AND_ESR
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    *("model", "title", "source", "arm", "quantity", *rates.COLUMNS),
    *("risk_ratio", "risk_ratio_low", "risk_ratio_high"),
    *("difference", "difference_low", "difference_high", "mcnemar_p", "z_p"),
]


def _comparison(compared: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in ("risk_ratio", "difference"):
        ends = compared[f"{name}_interval"] or (None, None)
        row |= {name: compared[name], f"{name}_low": ends[0], f"{name}_high": ends[1]}
    paired, unpaired = compared.get("paired"), compared.get("unpaired")
    row["mcnemar_p"] = paired["test"]["p_value"] if paired else None
    row["z_p"] = unpaired["p_value"] if unpaired else None
    return row
