"""Figures A.15 and A.16 of the paper: activations around the correction, and by region.

python plotting/plot_exp9.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from plotting import rates, style
from plotting.command import Drawn, figure_command
from plotting.plot_exp6 import REGIONS
from plotting.sources import Source

EXPERIMENT = "experiment_09_activation_stats"
ALIGNED, BARS = "exp9_aligned", "exp9_regions"

NAMES = {"detectors": "off-topic detector", "backtracking": "backtracking latent"}

MIN_EPISODES = 3
"""Fewer episodes at a token give no mean worth a line; the CSV has them."""

BASELINE = "#9a9a9a"
PARTS = {**REGIONS, "baseline": ("baseline", BASELINE)}
EDGE = {
    "off_topic": "#b5532a",
    "correction": "#a98b00",
    "on_topic": "#00704f",
    "baseline": BASELINE,
}
"""Darker than the shades: bars must be seen by themselves."""


def draw_aligned(sources: Sequence[Source]) -> Figure:
    """Figure A.15: mean activation of each group per token, all episodes aligned."""
    return _figure(sources, "aligned", 1.35, _trace, "tokens from the start of the correction")


def draw_bars(sources: Sequence[Source]) -> Figure:
    """Figure A.16: mean activation of each group by region, beside the baseline."""
    return _figure(sources, "groups", 1.3, _bars, "mean activation")


def _figure(sources: Sequence[Source], key: str, row: float, panel: Any, xlabel: str) -> Figure:
    cells = [(source, name) for source in sources for name in source.data.get(key, {})]
    notes = _notes(sources, key)
    organisms = [source.title for source in sources if source.organism]
    lines = style.note_lines(notes, style.COLUMN_WIDTH)
    height = row * max(1, len(cells)) + 0.25 + 0.1 * lines + (0.3 if organisms else 0.0)
    with style.look():
        figure = style.new_figure(height, style.COLUMN_WIDTH)
        grid = figure.subplots(max(1, len(cells)), 1, squeeze=False)[:, 0]
        if not cells:
            style.empty_panel(grid[0], f"no complete run of {EXPERIMENT}")
        for axes, (source, name) in zip(grid, cells, strict=False):
            members = sum(r["group"] == name for r in source.data["latents"])
            panel(axes, source, source.data[key][name])
            axes.set_title(
                f"{source.title}: {members} {NAMES.get(name, name)}{'s' * (members != 1)}",
                loc="left",
                fontweight="bold",
                color=style.colour(source.model),
            )
        if cells:
            grid[-1].set_xlabel(xlabel)
        style.footnotes(figure, notes, organisms)
    return figure


def _trace(axes: Axes, source: Source, found: Mapping[str, Any]) -> None:
    kept = [i for i, n in enumerate(found["n"]) if n >= MIN_EPISODES]
    if not kept:
        style.empty_panel(axes, f"fewer than {MIN_EPISODES} episodes")
        return
    x = np.array(found["offset"], dtype=float)[kept]
    mean, sem = (
        np.array([found[name][i] if found[name][i] is not None else np.nan for i in kept])
        for name in ("mean", "sem")
    )
    colour = style.colour(source.model)
    axes.fill_between(x, mean - sem, mean + sem, color=colour, alpha=0.25, linewidth=0)
    axes.plot(x, mean, color=colour, linewidth=1.0)
    axes.axvline(0, color=style.INK, linewidth=0.6, linestyle=(0, (3, 2)))
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(bottom=0)
    axes.set_ylabel("mean activation")


def _bars(axes: Axes, source: Source, found: Mapping[str, Any]) -> None:  # noqa: ARG001
    shown = [name for name in PARTS if found.get(f"{name}_mean") is not None]
    for row, name in enumerate(reversed(shown)):
        value, ends = found[f"{name}_mean"], found.get(f"{name}_interval")
        axes.barh(row, value, height=0.6, color=EDGE[name], alpha=0.75, linewidth=0)
        if ends:
            axes.plot(ends, [row, row], color=style.INK, linewidth=0.9)
            axes.plot(ends, [row, row], "|", color=style.INK, markersize=4.5, markeredgewidth=0.9)
    axes.set_yticks(range(len(shown)), [PARTS[name][0] for name in reversed(shown)])
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", length=0)


def _notes(sources: Sequence[Source], key: str) -> list[str]:
    if not sources:
        return []
    first = (
        "Line: mean over episodes of the group's mean activation; band: SEM; dashed: the "
        f"correction begins. Tokens with fewer than {MIN_EPISODES} episodes are left out."
        if key == "aligned"
        else "Bars: mean over responses of the group's mean activation; lines: 95 % bootstrap over "
        "boosted latents, where it varies."
    )
    notes = [first, "Texts are fed without steering; the boosted latent of a text is left out."]
    for source in sources:
        counts = source.data["counts"]
        notes.append(
            f"{source.title}: {counts['episodes_analysed']} episodes under "
            f"{counts['boosted_latents']} boosted latents, {counts['baseline']} baseline "
            f"responses; detectors chosen by {source.data['detectors']['method']}; boundaries: "
            f"{', '.join(source.data['boundaries'])}."
        )
        if "backtracking" not in source.data["groups"]:
            notes.append(f"{source.title}: no backtracking latents were found.")
        if key == "groups":
            notes += [_test(source.title, name, row) for name, row in source.data[key].items()]
    return [note for note in [*notes, *rates.judges(sources)] if note]


def _test(title: str, name: str, row: Mapping[str, Any]) -> str:
    size = "" if row["cohens_d"] is None else f", d {row['cohens_d']:+.2f}"
    return (
        f"{title}, {name}: off topic above on topic, one-sided Wilcoxon "
        f"p {row['wilcoxon_p']:.2g}{size}, n {row['n']}."
    )


def aligned_table(sources: Sequence[Source]) -> pd.DataFrame:
    """Every token of every group."""
    made = [
        pd.DataFrame({"model": source.model, "title": source.title, "group": name, **found})
        for source in sources
        for name, found in source.data.get("aligned", {}).items()
    ]
    return pd.concat(made) if made else pd.DataFrame()


def bar_table(sources: Sequence[Source]) -> pd.DataFrame:
    """Mean and interval by group and region, with the test of the group."""
    made = []
    for source in sources:
        for name, found in source.data.get("groups", {}).items():
            for part in PARTS:
                low, high = found.get(f"{part}_interval") or (None, None)
                row = {"model": source.model, "title": source.title, "group": name, "region": part}
                row |= {"mean": found.get(f"{part}_mean"), "low": low, "high": high}
                row |= {k: found[k] for k in ("n", "cohens_d", "cliffs_delta", "wilcoxon_p")}
                made.append(row)
    return pd.DataFrame(made)


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    found = [source for source in sources if "groups" in source.data]
    return [
        Drawn(ALIGNED, draw_aligned(found), aligned_table(found)),
        Drawn(BARS, draw_bars(found), bar_table(found)),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv)


if __name__ == "__main__":
    sys.exit(main())
