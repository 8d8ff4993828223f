"""Figure 7 of the paper: one self-correcting episode, token by token.

python plotting/plot_exp6.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plotting import figure, style
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.sources import Source

EXPERIMENT = "experiment_06_sequential_activations"
NAME = "exp6_sequential"

ALPHA = 0.5
"""Weight of the newest token in the exponential smoothing (paper section 3.6)."""

REGIONS = {
    "off_topic": ("off topic", "#f3d2c1"),
    "correction": ("correction", "#fdf0b2"),
    "on_topic": ("on topic", "#cfe6dc"),
}
"""Name and shade of each region; light enough for lines to stand out."""


def smoothed(values: Sequence[float]) -> NDArray[np.float64]:
    """Exponential smoothing: s = alpha x + (1 - alpha) s, starting at the first value."""
    return pd.Series(values, dtype=float).ewm(alpha=ALPHA, adjust=False).mean().to_numpy()


@style.look()
def _draw(source: Source | None) -> Figure:
    """One episode: a panel per series."""
    series = source.data["series"] if source else {}
    picture, grid = figure.grid(
        *(EXPERIMENT, [1.2] * len(series)),
        sources=[source] if source else [],
        notes=_notes(source) if source else [],
        width=style.PAGE_WIDTH,
        sharex=True,
    )
    if source:
        for axes, (name, values) in zip(grid.flat, series.items(), strict=True):
            _series(axes, source, name, values)
        _legend(grid[0][0], source.data["regions"])
        grid[-1][0].set_xlabel("token of the response")
    return picture


def _series(axes: Axes, source: Source, name: str, values: Sequence[float]) -> None:
    for key, (low, high) in _extents(source.data["regions"]).items():
        axes.axvspan(low - 0.5, high - 0.5, color=REGIONS[key][1], linewidth=0, zorder=0)
    tokens, colour = np.arange(len(values)), style.colour(source.model)
    axes.plot(tokens, values, color=style.FAINT, linewidth=0.5, zorder=2)
    axes.plot(tokens, smoothed(values), color=colour, linewidth=1.2, zorder=3)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_ylim(0, 1.08 * max([*values, 0.0]) or 1.0)
    axes.set_title(_title(source.data, name), loc="left", fontsize=style.SMALL + 0.6)
    axes.set_ylabel("activation")


def _title(data: Mapping[str, Any], name: str) -> str:
    if name == "boosted":
        episode = data["episode"]
        label = textwrap.shorten(episode["latent_label"], 60, placeholder="...")
        return f"boosted latent {episode['latent']} ({label}), boost {episode['threshold']:g}"
    if name == "detectors":
        return f"sum over {len(data['detectors']['latents'])} off-topic detectors"
    return name


def _extents(regions: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """First token of each region, and the one after its last."""
    marks = [regions[key] for key in (*REGIONS, "end")]
    return dict(zip(REGIONS, pairwise(marks), strict=True))


def _legend(axes: Axes, regions: Mapping[str, int]) -> None:
    """Names of the regions above the first panel, to the right of its title."""
    handles = [
        axes.fill_between([], [], [], color=REGIONS[key][1], linewidth=0, label=REGIONS[key][0])
        for key, (low, high) in _extents(regions).items()
        if low < high
    ]
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=len(handles),
        borderaxespad=0.1,
        handlelength=1.2,
        columnspacing=1.0,
    )


def _notes(source: Source) -> list[str]:
    data = source.data
    episode, parts = data["episode"], data["boundaries"]
    response = " ".join(episode["response"].split())
    correction = " ".join(episode["response"][parts["correction"] : parts["on_topic"]].split())
    scores = " to ".join(f"{score:g}" for score in episode["scores"])
    return [
        f"{source.title}, trial {episode['trial_id']}, scores {scores}. Grey: per token; line: "
        f"smoothed, alpha {ALPHA:g}. The text is fed once more with its boost on.",
        f"Prompt: {episode['prompt']}",
        f"Response: {textwrap.shorten(response, 420, placeholder=' ...')}",
        f"Correction: {textwrap.shorten(correction, 120, placeholder=' ...')}",
        f"Detectors chosen by {data['detectors']['method']}; boundaries: {parts['method']}. "
        "One episode, an illustration and no test.",
        *figure.judges([source]),
    ]


def _table(source: Source) -> pd.DataFrame:
    """Every token with its region and the plotted values."""
    data, tokens = source.data, source.data["tokens"]
    extents = _extents(data["regions"]).items()
    regions = [
        next((name for name, (low, high) in extents if low <= token < high), "")
        for token in range(len(tokens))
    ]
    columns: dict[str, Any] = {
        "trial_id": data["episode"]["trial_id"],
        "token": np.arange(len(tokens)),
        "text": tokens,
        "region": regions,
    }
    for name, values in data["series"].items():
        columns |= {name: values, f"{name}, smoothed": smoothed(values)}
    return pd.DataFrame(columns)


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """One figure per run; the first bears the plain name."""
    episodes = [source for source in sources if "episode" in source.data]
    if not episodes:
        return [Drawn(NAME, _draw(None), pd.DataFrame())]
    names = [NAME, *(f"{NAME}_{source.model}" for source in episodes[1:])]
    return [Drawn(n, _draw(s), _table(s)) for n, s in zip(names, episodes, strict=True)]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
