"""Figure 7 of the paper: one self-correcting episode, token by token.

python plotting/plot_exp6.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from plotting import rates, style
from plotting.command import Drawn, figure_command
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


def draw(source: Source) -> Figure:
    """One episode: a panel per series."""
    data = source.data
    if "episode" not in data:
        return _empty()
    notes = _notes(source)
    width = style.PAGE_WIDTH
    lines = style.note_lines(notes, width)
    series = data["series"]
    height = 1.0 * len(series) + 0.55 + 0.1 * lines + (0.3 if source.organism else 0.0)
    with style.look():
        figure = style.new_figure(height, width)
        grid = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (name, values) in zip(grid, series.items(), strict=True):
            _series(axes, data, name, values, style.colour(source.model))
        _names(grid[0], data["regions"])
        grid[-1].set_xlabel("token of the response")
        style.footnotes(figure, notes, [source.title] if source.organism else [])
    return figure


def _empty() -> Figure:
    with style.look():
        figure = style.new_figure(1.2, style.PAGE_WIDTH)
        style.empty_panel(figure.subplots(), f"no complete run of {EXPERIMENT}")
    return figure


def _series(
    axes: Axes, data: Mapping[str, Any], name: str, values: Sequence[float], colour: str
) -> None:
    for key, (low, high) in _extents(data["regions"]).items():
        axes.axvspan(low - 0.5, high - 0.5, color=REGIONS[key][1], linewidth=0, zorder=0)
    tokens = np.arange(len(values))
    axes.plot(tokens, values, color=style.FAINT, linewidth=0.5, zorder=2)
    axes.plot(tokens, smoothed(values), color=colour, linewidth=1.2, zorder=3)
    axes.set_xlim(-0.5, len(values) - 0.5)
    top = max([*values, 0.0])
    axes.set_ylim(0, 1.08 * top if top > 0 else 1.0)
    axes.set_title(_title(data, name), loc="left", fontsize=style.SMALL + 0.6)
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
    return {
        "off_topic": (regions["off_topic"], regions["correction"]),
        "correction": (regions["correction"], regions["on_topic"]),
        "on_topic": (regions["on_topic"], regions["end"]),
    }


def _names(axes: Axes, regions: Mapping[str, int]) -> None:
    """Names of the regions above the first panel, to the right of its title."""
    handles = []
    for key, (low, high) in _extents(regions).items():
        if low < high:
            name, shade = REGIONS[key]
            handles.append(axes.fill_between([], [], [], color=shade, linewidth=0, label=name))
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
        *[note for note in rates.judges([source]) if note],
    ]


def table(source: Source) -> pd.DataFrame:
    """Every token with its region and the plotted values."""
    data = source.data
    if "episode" not in data:
        return pd.DataFrame()
    made: dict[str, Any] = {
        "trial_id": data["episode"]["trial_id"],
        "token": np.arange(len(data["tokens"])),
        "text": data["tokens"],
        "region": [_region(data["regions"], i) for i in range(len(data["tokens"]))],
    }
    for name, values in data["series"].items():
        made[name] = values
        made[f"{name}, smoothed"] = smoothed(values)
    return pd.DataFrame(made)


def _region(regions: Mapping[str, int], token: int) -> str:
    for name, (low, high) in _extents(regions).items():
        if low <= token < high:
            return name
    return ""


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """One figure per run; the first bears the plain name."""
    found = [source for source in sources if "episode" in source.data]
    if not found:
        return [Drawn(NAME, _empty(), pd.DataFrame())]
    names = [NAME] + [f"{NAME}_{source.model}" for source in found[1:]]
    return [Drawn(n, draw(s), table(s)) for n, s in zip(names, found, strict=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv)


if __name__ == "__main__":
    sys.exit(main())
