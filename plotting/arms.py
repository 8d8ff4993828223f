"""Arms of a run side by side, a bar per arm: the figures of experiments 3, 5, 8 and 10."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from esr.analysis import tables
from plotting import figure, rates, style
from plotting.figure import Drawn, Panel
from plotting.sources import Source

IMPROVED = "conditional_improvement_rate"

SHOWN = (*rates.MULTI_AND_ESR, rates.SCORE)
"""Panels beside each other: rates, and the score that they depend on."""


def detectors(latents: Sequence[int], method: str) -> str:
    """What a set of detectors is called: separable latents are no detectors one by one."""
    return f"{len(latents)} {'separable latents' if method == 'separability' else 'detectors'}"


@dataclass(frozen=True)
class Arm:
    """One condition.

    Attributes:
        name: as the figure has it.
        summary: see :func:`esr.analysis.metrics.summary`.
        comparison: with the baseline, by quantity; None for the baseline itself.
        colour: the model's where empty.
        note: said of it in the caption.
        run: name of its run folder; the group's where empty.
    """

    name: str
    summary: rates.Summary
    comparison: Mapping[str, Any] | None = None
    colour: str = ""
    note: str = ""
    run: str = ""


@dataclass(frozen=True)
class Group:
    """One run with its arms.

    Attributes:
        source: the run.
        title: of its panels.
        arms: from top to bottom; without arms the panel says ``missing``.
        notes: said in the caption.
        missing: see ``arms``.
    """

    source: Source
    title: str
    arms: Sequence[Arm]
    notes: Sequence[str] = ()
    missing: str = ""


def draw(
    name: str,
    experiment: str,
    groups: Sequence[Group],
    table: pd.DataFrame,
    about: str,
    notes: Sequence[str] = (),
    quantities: Sequence[str] = SHOWN,
    columns: int = len(SHOWN),
) -> Drawn:
    """A panel per run and quantity, those of a run beside each other, or below in one column."""
    rows = []
    for group in groups:
        for k in range(0, len(quantities), columns):
            beside = quantities[k : k + columns]
            # Below a bar with its references there must be room for them.
            each = 0.37 if IMPROVED in beside else 0.29
            panels = [_panel(groups, group, q, column) for column, q in enumerate(beside)]
            rows.append((0.55 + each * max(1, len(group.arms)), panels))
    return figure.compose(
        *(name, experiment, rows, table),
        about=about,
        sources=[group.source for group in groups],
        notes=[rates.INTERVALS, *notes, *_notes(groups, quantities)],
        width=style.PAGE_WIDTH if columns > 1 else style.COLUMN_WIDTH,
    )


def _panel(groups: Sequence[Group], group: Group, quantity: str, column: int) -> Panel:
    model, null = group.source.model, quantity == IMPROVED
    bars = [
        rates.Bar(
            arm.name,
            rates.rate_of(arm.summary, quantity),
            arm.colour or style.colour(model),
            tuple(arm.summary.get(name) for name in rates.REFERENCES) if null else (),
            _ratio(arm, quantity),
        )
        for arm in group.arms
    ]
    unit = rates.unit_of(quantity)
    # Organisms are not to be compared with large models: each kind has its own axis.
    kin = [arm for g in groups if g.source.organism == group.source.organism for arm in g.arms]
    together = rates.MULTI_AND_ESR if quantity in rates.MULTI_AND_ESR else (quantity,)
    limit = rates.limit((rates.rate_of(arm.summary, q) for arm in kin for q in together), unit)
    graded = "% of multi-attempt trials" if null else "% of graded trials"
    title = rates.TITLES[quantity]
    return Panel(
        partial(rates.bars, shown=bars, limit=limit, unit=unit, names=not column),
        title if column else f"{group.title}\n{title}",
        model,
        "mean, 0 to 100" if quantity == rates.SCORE else graded,
        empty="" if bars else group.missing,
    )


def _ratio(arm: Arm, quantity: str) -> str:
    compared = (arm.comparison or {}).get(quantity) or {}
    ratio = compared.get("risk_ratio") if quantity != rates.SCORE else None
    if ratio is None:
        return ""
    return f", ratio {ratio:.2f}" if ratio >= 0.1 or not ratio else f", ratio {ratio:.1g}"


def _notes(groups: Sequence[Group], quantities: Sequence[str]) -> Iterator[str]:
    if any(arm.comparison for group in groups for arm in group.arms):
        yield "Ratio: to the baseline."
    if IMPROVED in quantities:
        yield rates.NULL
    for group in groups:
        yield from group.notes
        for arm in group.arms:
            title = f"{group.title}, {arm.name}"
            parts = [*_compared(arm, quantities), arm.note]
            if any(parts):
                yield f"{title}: {'; '.join(part for part in parts if part)}."
            yield rates.lost(title, arm.summary["counts"])


def _compared(arm: Arm, quantities: Sequence[str]) -> Iterator[str]:
    """Each rate over the baseline's with its two-way interval and the paired tests."""
    for quantity in quantities:
        compared = (arm.comparison or {}).get(quantity)
        if compared and quantity != rates.SCORE:
            ratio = f"{rates.NAMES[quantity]} {tables.risk_ratio(compared)} x baseline"
            paired = compared.get("paired")
            yield f"{ratio}, {tables.p_values(paired)}" if paired else ratio


def table(groups: Sequence[Group], quantities: Sequence[str] = SHOWN) -> pd.DataFrame:
    """The plotted numbers and the comparisons of the notes; shares 0 to 1, scores 0 to 100."""
    rows = [
        {
            "model": group.source.model,
            "title": group.title,
            "source": arm.run or group.source.path.name,
            "arm": arm.name,
            "quantity": quantity,
            **rates.row(rates.rate_of(arm.summary, quantity)),
            **_comparison((arm.comparison or {}).get(quantity)),
        }
        for group in groups
        for arm in group.arms
        for quantity in quantities
        if quantity in arm.summary
    ]
    # A score has no count, which must not turn the counts of the rates into decimals.
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"count": "Int64"})


_COLUMNS = [
    *("model", "title", "source", "arm", "quantity", *rates.COLUMNS),
    *("risk_ratio", "risk_ratio_low", "risk_ratio_high"),
    *("difference", "difference_low", "difference_high", "mcnemar_p", "z_p"),
    "sign_flip_p",
    *("risk_ratio_two_way_low", "risk_ratio_two_way_high"),
    *("difference_two_way_low", "difference_two_way_high", "sign_flip_prompt_p"),
]


def _comparison(compared: Mapping[str, Any] | None) -> dict[str, Any]:
    if not compared:
        return {}
    row: dict[str, Any] = {}
    for name in ("risk_ratio", "difference"):
        row[name] = compared[name]
        for kind, column in (("interval", name), ("two_way", f"{name}_two_way")):
            low, high = compared.get(f"{name}_{kind}") or (None, None)
            row |= {f"{column}_low": low, f"{column}_high": high}
    paired, unpaired = (compared.get(kind) or {} for kind in ("paired", "unpaired"))
    tests = {"mcnemar_p": "test", "sign_flip_p": "sign_flip"}
    tests["sign_flip_prompt_p"] = "sign_flip_prompt"
    p_values = {name: (paired.get(key) or {}).get("p_value") for name, key in tests.items()}
    return {**row, **p_values, "z_p": unpaired.get("p_value")}
