"""Figures A.15 and A.16 of the paper: activations around the correction, and by region.

python plotting/plot_exp9.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plotting import figure, style
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.plot_exp6 import REGIONS
from plotting.sources import Source

EXPERIMENT = "experiment_09_activation_stats"
ALIGNED, BARS = "exp9_aligned", "exp9_regions"

NAMES = {"detectors": "off-topic detector", "backtracking": "backtracking latent"}

MIN_EPISODES = 3
"""Fewer episodes at a token give no mean worth a line; the CSV has them."""

PARTS = {**{key: name for key, (name, _) in REGIONS.items()}, "baseline": "baseline"}
COLOURS = {
    "off_topic": "#b5532a",
    "correction": "#a98b00",
    "on_topic": "#00704f",
    "baseline": style.BASELINE,
}
"""Darker than the shades: bars must be seen by themselves."""

HEADS = {
    "aligned": "Line: mean over episodes of the group's mean activation; band: SEM; dashed: the "
    f"correction begins. Tokens with fewer than {MIN_EPISODES} episodes are left out.",
    "groups": "Bars: mean over responses of the group's mean activation; lines: 95 % bootstrap "
    "over boosted latents, where it varies.",
}
"""First note by key of the results."""


@style.look()
def _draw(
    sources: Sequence[Source],
    key: str,
    panel: Callable[[Axes, Mapping[str, Any], str], None],
    xlabel: str,
) -> Figure:
    """A panel per run and group of latents."""
    cells = [(source, name) for source in sources for name in source.data[key]]
    picture, grid = figure.grid(
        *(EXPERIMENT, [1.35] * len(cells)),
        sources=sources,
        notes=[*_notes(sources, key), *figure.judges(sources)],
    )
    for axes, (source, name) in zip(grid.flat, cells, strict=True):
        panel(axes, source.data[key][name], style.colour(source.model))
        members = sum(row["group"] == name for row in source.data["latents"])
        latents = f"{members} {NAMES.get(name, name)}{'s' * (members != 1)}"
        figure.heading(axes, f"{source.title}: {latents}", source.model)
        axes.set_xlabel(xlabel)
    return picture


def _trace(axes: Axes, group: Mapping[str, Any], colour: str) -> None:
    """Mean activation per token, all episodes aligned (Figure A.15)."""
    enough = np.array(group["n"]) >= MIN_EPISODES
    if not enough.any():
        style.empty_panel(axes, f"fewer than {MIN_EPISODES} episodes")
        return
    x, mean, sem = (np.array(group[k], dtype=float)[enough] for k in ("offset", "mean", "sem"))
    axes.fill_between(x, mean - sem, mean + sem, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, mean, color=colour, linewidth=1.0)
    axes.axvline(0, color=style.INK, linewidth=0.6, linestyle=style.DASHED)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean activation")


def _bars(axes: Axes, group: Mapping[str, Any], _: str) -> None:
    """Mean activation by region, beside the baseline (Figure A.16)."""
    shown = [part for part in reversed(PARTS) if group.get(f"{part}_mean") is not None]
    for row, part in enumerate(shown):
        colour = COLOURS[part]
        axes.barh(row, group[f"{part}_mean"], height=0.6, color=colour, alpha=0.75, linewidth=0)
        if ends := group.get(f"{part}_interval"):
            axes.plot(ends, [row, row], color=style.INK, linewidth=0.9)
            axes.plot(ends, [row, row], "|", color=style.INK, markersize=4.5, markeredgewidth=0.9)
    axes.set_yticks(range(len(shown)), [PARTS[part] for part in shown])
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)


def _notes(sources: Sequence[Source], key: str) -> list[str]:
    notes = [
        HEADS[key],
        "Texts are fed without steering; the boosted latent of a text is left out.",
    ]
    for source in sources:
        data, counts = source.data, source.data["counts"]
        notes.append(
            f"{source.title}: {counts['episodes_analysed']} episodes under "
            f"{counts['boosted_latents']} boosted latents, {counts['baseline']} baseline "
            f"responses; detectors chosen by {data['detectors']['method']}; boundaries: "
            f"{', '.join(data['boundaries'])}."
        )
        if "backtracking" not in data["groups"]:
            notes.append(f"{source.title}: no backtracking latents were found.")
        if key == "groups":
            notes += [_test(source.title, name, row) for name, row in data[key].items()]
    return notes


def _test(title: str, name: str, row: Mapping[str, Any]) -> str:
    size = "" if row["cohens_d"] is None else f", d {row['cohens_d']:+.2f}"
    return (
        f"{title}, {name}: off topic above on topic, one-sided Wilcoxon "
        f"p {row['wilcoxon_p']:.2g}{size}, n {row['n']}."
    )


def _aligned_table(sources: Sequence[Source]) -> pd.DataFrame:
    """Every token of every group."""
    tables = [
        pd.DataFrame({"model": source.model, "title": source.title, "group": name, **group})
        for source in sources
        for name, group in source.data["aligned"].items()
    ]
    return pd.concat(tables) if tables else pd.DataFrame()


def _bar_table(sources: Sequence[Source]) -> pd.DataFrame:
    """Mean and interval by group and region, with the test of the group."""
    rows = []
    for source in sources:
        for name, group in source.data["groups"].items():
            for part in PARTS:
                low, high = group.get(f"{part}_interval") or (None, None)
                row = {"model": source.model, "title": source.title, "group": name, "region": part}
                row |= {"mean": group.get(f"{part}_mean"), "low": low, "high": high}
                row |= {k: group[k] for k in ("n", "cohens_d", "cliffs_delta", "wilcoxon_p")}
                rows.append(row)
    return pd.DataFrame(rows)


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    runs = [source for source in sources if "groups" in source.data]
    aligned = _draw(runs, "aligned", _trace, "tokens from the start of the correction")
    regions = _draw(runs, "groups", _bars, "mean activation")
    return [
        Drawn(ALIGNED, aligned, _aligned_table(runs)),
        Drawn(BARS, regions, _bar_table(runs)),
    ]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
