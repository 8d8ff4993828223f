"""Figures A.15 and A.16 of the paper: activations around the correction, and by region.

python plotting/plot_exp9.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn, Panel, Row
from plotting.plot_exp6 import REGIONS
from plotting.rates import Rate, Unit
from plotting.sources import Source

EXPERIMENT = "experiment_09_activation_stats"
ALIGNED, BARS = "exp9_aligned", "exp9_regions"

NAMES = {"detectors": "off-topic detector", "backtracking": "backtracking latent"}
ACTIVATION = Unit(digits=2)

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
    "aligned": "Line: mean over episodes of the group's mean activation; band: SEM over episodes, "
    "which are not independent where they share a boosted latent; dashed: the correction begins; "
    "along the upper edge: episodes. Tokens with fewer than "
    f"{MIN_EPISODES} episodes are left out.",
    "groups": "Bars: mean over responses of the group's mean activation; lines: 95 %, two-way "
    "over boosted latents and prompts, where they vary.",
}
"""First note by key of the results."""

ABOUT = {
    "aligned": "Activations around the correction (Figure A.15 of the paper).",
    "groups": "Activations by region (Figure A.16 of the paper).",
}


def _rows(sources: Sequence[Source], key: str) -> list[Row]:
    """A panel per run and group of latents."""
    return [
        (1.35, [_panel(source, key, name, group)])
        for source in sources
        for name, group in source.data[key].items()
    ]


def _panel(source: Source, key: str, name: str, group: Mapping[str, Any]) -> Panel:
    members = [row for row in source.data["latents"] if row["group"] == name]
    kind = NAMES.get(name, name)
    if name == "detectors" and source.data["detectors"]["method"] == "separability":
        kind = "separable latent"  # No detectors one by one.
    latents = f"{len(members)} {kind}s"
    if len(members) == 1:
        label = textwrap.shorten(members[0]["label"], 20, placeholder="...")
        latents = f"{kind} {members[0]['latent']}" + (label and f" ({label})")
    heading = (f"{source.title}\n{latents}", source.model)
    if key == "groups":
        shown = {part: _mean(group, part) for part in PARTS if f"{part}_mean" in group}
        limit = rates.limit(shown.values(), ACTIVATION)
        bars = [rates.Bar(PARTS[part], mean, COLOURS[part]) for part, mean in shown.items()]
        draw = partial(rates.bars, shown=bars, limit=limit, unit=ACTIVATION)
        return Panel(draw, *heading, "mean activation")
    few = "" if max(group["n"], default=0) >= MIN_EPISODES else TOO_FEW
    draw = partial(_trace, group=group, colour=style.colour(source.model))
    return Panel(draw, *heading, "tokens from the start of the correction", "mean activation", few)


TOO_FEW = f"fewer than {MIN_EPISODES} episodes"


def _mean(group: Mapping[str, Any], part: str) -> Rate:
    n = group["baseline_n" if part == "baseline" else "n"]
    two_way, by_latent = _intervals(group, part)
    mean = group[f"{part}_mean"]
    return {"rate": mean, "n": n, "two_way_interval": two_way, "cluster_interval": by_latent}


def _intervals(group: Mapping[str, Any], part: str) -> list[Sequence[float] | None]:
    """Two-way and by latent."""
    return [group.get(f"{part}_{kind}") for kind in ("two_way_interval", "interval")]


def _trace(axes: Axes, group: Mapping[str, Any], colour: str) -> None:
    """Mean activation per token, all episodes aligned (Figure A.15)."""
    enough = np.array(group["n"]) >= MIN_EPISODES
    x, mean, sem, n = (
        np.array(group[k], dtype=float)[enough] for k in ("offset", "mean", "sem", "n")
    )
    axes.fill_between(x, np.maximum(0, mean - sem), mean + sem, color=colour, alpha=0.25, lw=0)
    axes.plot(x, mean, color=colour, linewidth=1.0)
    axes.axvline(0, color=style.INK, linewidth=0.6, linestyle=style.DASHED)
    rates.y_axis(axes, float(np.nanmax(mean + np.nan_to_num(sem))) or 1.0, ACTIVATION)
    some = np.unique((np.linspace(0.04, 0.96, 7) * (len(x) - 1)).astype(int))
    rates.sizes(axes, list(x[some]), [{"n": int(n[k])} for k in some])
    axes.set_xlim(x[0], x[-1])


def _notes(sources: Sequence[Source], key: str) -> Iterator[str]:
    yield HEADS[key]
    yield "Texts are fed without steering; the boosted latent of a text is left out."
    for source in sources:
        data, counts = source.data, source.data["counts"]
        yield (
            f"{source.title}: {counts['episodes_analysed']} episodes under "
            f"{counts['boosted_latents']} boosted latents, {counts['baseline']} baseline "
            f"responses; detectors chosen by {data['detectors']['method']}; boundaries: "
            f"{', '.join(data['boundaries'])}."
        )
        if "backtracking" not in data["groups"]:
            yield f"{source.title}: no backtracking latents were found."
        if key == "groups":
            yield from (_test(source.title, name, row) for name, row in data[key].items())


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
                row = {"model": source.model, "title": source.title, "group": name, "region": part}
                row["mean"] = group.get(f"{part}_mean")
                row |= rates.ends_row(*_intervals(group, part))
                row |= {k: group[k] for k in ("n", "cohens_d", "cliffs_delta", "wilcoxon_p")}
                rows.append(row)
    return pd.DataFrame(rows)


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    runs = [source for source in sources if "groups" in source.data]
    return [
        figure.compose(
            *(name, EXPERIMENT, _rows(runs, key), table),
            about=ABOUT[key],
            sources=runs,
            notes=_notes(runs, key),
        )
        for name, key, table in (
            (ALIGNED, "aligned", _aligned_table(runs)),
            (BARS, "groups", _bar_table(runs)),
        )
    ]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
