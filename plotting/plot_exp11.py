"""Experiment 11 (ours): one row per control, and how far it leaves what the parent has.

python plotting/plot_exp11.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from esr.analysis import tables
from plotting import arms, figure, rates, style
from plotting.arms import Arm, Group
from plotting.command import figure_command
from plotting.figure import Drawn, Panel
from plotting.sources import Source

EXPERIMENT = "experiment_11_resistance_controls"
NAME = "exp11_controls"
PANELS = ("multi_attempt_rate", "conditional_improvement_rate", rates.SCORE)
QUANTITIES = (*PANELS, "esr_rate")


AGAINST = {
    "redraw": ("a restart, where it could be tried again", "another try"),
    "position": ("a restart", "going on at the same place"),
}
"""Control -> what is compared: improvement of a restart, and of what stands in its place."""

TRIES = "better than the first attempt"
BEGINNINGS = {
    "matched-natural": "its own corrective text",
    "matched-on-topic": "unsteered text",
    "matched-phrase": "announcement alone",
    "matched-removed": "nothing of it",
}


def _group(source: Source) -> Group:
    """The parent, then every arm that grades whole responses."""
    baseline = source.data["baseline"]["summary"]
    shown = [Arm("parent", baseline, colour=style.BASELINE)]
    for name, arm in source.data["arms"].items():
        if not arm["part"]:
            shown.append(Arm(name, arm["summary"], arm["comparison"]))
    return Group(source, source.title, shown, list(_notes(source)))


def _notes(source: Source) -> Iterator[str]:
    """What a control says that no row shows."""
    found, title = source.data["findings"], source.title
    for name, against in {"redraw": "another try", "position": "going on"}.items():
        if (null := found.get(name)) and null["n"]:
            interval = tables.percent_range(null["excess_two_way_interval"])
            yield (
                f"{title}: {null['improved']} of {null['n']} restarts improved, {against} would "
                f"have in {tables.percent(null['rate'])}: excess "
                f"{tables.percent(null['excess'])} [{interval}]."
            )
    if matched := found.get("matched-prefix"):
        scores = ", ".join(
            f"{name.removeprefix('matched-')} {tables.decimal(score['mean'], 1)}"
            for name, score in matched["scores"].items()
        )
        yield f"{title}: score of what follows a given beginning: {scores}."
    for name, reason in source.data["left_out"].items():
        yield f"{title}: {name} left out, {reason.split(' of ')[0]} starts over in the parent."


def findings(source: Source) -> dict[str, list[rates.Bar]]:
    """Title of a panel -> its bars: what the controls say that are no arm of all trials."""
    found, colour = source.data["findings"], style.colour(source.model)
    tries = []
    for name, (observed, null) in AGAINST.items():
        if (entry := found.get(name)) and entry["n"]:
            share = {"rate": entry["improved"] / entry["n"], "count": entry["improved"]}
            tries.append(rates.Bar(observed, {**share, "n": entry["n"]}, colour))
            drawn = {k: entry[k] for k in ("rate", "two_way_interval")}
            tries.append(rates.Bar(null, {**drawn, "n": entry["compared"]}, style.BASELINE))
    scores = found.get("matched-prefix", {}).get("scores", {})
    follows = [
        rates.Bar(BEGINNINGS[name], {**entry, "rate": entry["mean"]}, colour)
        for name, entry in scores.items()
    ]
    lengths = [
        rates.Bar(entry["attempt"], {"rate": entry["score"], "n": entry["n"]}, colour)
        for entry in found.get("length", {}).get("attempts", ())
    ]
    panels = {TRIES: tries, "score of what follows": follows, "score by attempt": lengths}
    return {title: bars for title, bars in panels.items() if bars}


def _findings_panels(model: str, found: Mapping[str, Sequence[rates.Bar]]) -> list[Panel]:
    panels = []
    for title, bars in found.items():
        unit = rates.SHARE if title == TRIES else rates.POINTS
        limit = rates.limit((bar.rate for bar in bars), unit)
        x = "% of restarts or redraws" if title == TRIES else "mean, 0 to 100"
        draw = partial(rates.bars, shown=bars, limit=limit, unit=unit)
        panels.append(Panel(draw, title, model, x))
    return panels


def _findings_table(source: Source, found: Mapping[str, Sequence[rates.Bar]]) -> pd.DataFrame:
    """Rows under the columns of the arms; ``quantity`` is the title of the panel."""
    rows = [
        {
            **{"model": source.model, "title": source.title, "source": source.path.name},
            **{"arm": bar.label, "quantity": title},
            **rates.row(bar.rate),
        }
        for title, bars in found.items()
        for bar in bars
    ]
    return pd.DataFrame(rows).astype({"count": "Int64"})


def _panels(group: Group) -> list[Panel]:
    model = group.source.model
    panels = [_bars(group, quantity, not place) for place, quantity in enumerate(PANELS)]
    differences = [(arm.comparison or {}).get("esr_rate") for arm in group.arms]
    return [
        *panels,
        Panel(
            partial(_differences, shown=differences, colour=style.colour(model)),
            "ESR minus parent's",
            model,
            "points, 95 % two-way",
        ),
    ]


def _bars(group: Group, quantity: str, names: bool) -> Panel:
    model, unit = group.source.model, rates.unit_of(quantity)
    bars = [
        rates.Bar(arm.name, rates.rate_of(arm.summary, quantity), arm.colour or style.colour(model))
        for arm in group.arms
    ]
    limit = rates.limit((bar.rate for bar in bars), unit)
    title = f"{group.title}\n{rates.TITLES[quantity]}" if names else rates.TITLES[quantity]
    graded = {"conditional_improvement_rate": "% of multi-attempt trials"}
    return Panel(
        partial(rates.bars, shown=bars, limit=limit, unit=unit, names=names),
        title,
        model,
        "mean, 0 to 100" if quantity == rates.SCORE else graded.get(quantity, "% of graded trials"),
    )


def _differences(axes: Axes, shown: Sequence[Mapping[str, Any] | None], colour: str) -> None:
    """A point and its interval per row; nothing in the row of the parent."""
    rows = range(len(shown))[::-1]
    axes.axvline(0, color=style.BASELINE, linewidth=0.8)
    for row, compared in zip(rows, shown, strict=True):
        if compared is None or compared["difference"] is None:
            continue
        ends = compared.get("difference_two_way") or compared["difference_interval"]
        if ends:
            axes.plot([100 * end for end in ends], [row, row], color=style.INK, linewidth=0.9)
        axes.plot([100 * compared["difference"]], [row], "o", color=colour, markersize=3.6)
    axes.set_ylim(-0.5, len(shown) - 0.3)
    axes.set_yticks([])


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    groups = [_group(source) for source in sources]
    rows, tables = [], [arms.table(groups, QUANTITIES)]
    for group in groups:
        rows.append((0.55 + 0.29 * len(group.arms), _panels(group)))
        if found := findings(group.source):
            rows.append((1.75, _findings_panels(group.source.model, found)))
            tables.append(_findings_table(group.source, found))
    notes = [note for group in groups for note in group.notes]
    lost = [
        rates.lost(f"{group.title}, {arm.name}", arm.summary["counts"])
        for group in groups
        for arm in group.arms
    ]
    return [
        figure.compose(
            *(NAME, EXPERIMENT, rows, pd.concat(tables, ignore_index=True)),
            about="What is left of resistance after its controls (ours, beyond the paper).",
            sources=sources,
            notes=[rates.INTERVALS, *notes, *lost],
            width=style.PAGE_WIDTH,
        )
    ]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
