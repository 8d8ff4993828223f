"""Figure 7 of the paper: one self-correcting episode, token by token.

python plotting/plot_exp6.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from plotting import arms, figure, style
from plotting.command import figure_command
from plotting.figure import Drawn, Panel
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


def _panel(source: Source, name: str, values: Sequence[float]) -> Panel:
    data = source.data
    title, y = name, "activation"
    if name == "boosted":
        episode = data["episode"]
        label = textwrap.shorten(episode["latent_label"], 60, placeholder="...")
        title = f"boosted latent {episode['latent']} ({label}), boost {episode['threshold']:g}"
    elif name == "detectors":
        title = (
            f"sum over {arms.detectors(data['detectors']['latents'], data['detectors']['method'])}"
        )
    first = name == next(iter(data["series"]))
    draw = partial(_series, source=source, values=values, legend=first)
    return Panel(draw, title, x="token of the response", y=y)


def _series(axes: Axes, source: Source, values: Sequence[float], legend: bool) -> None:
    for key, (low, high) in _extents(source.data["regions"]).items():
        axes.axvspan(low - 0.5, high - 0.5, color=REGIONS[key][1], linewidth=0, zorder=0)
    tokens, colour = np.arange(len(values)), style.colour(source.model)
    axes.plot(tokens, values, color=style.FAINT, linewidth=0.5, zorder=2)
    axes.plot(tokens, smoothed(values), color=colour, linewidth=1.2, zorder=3)
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_ylim(0, 1.08 * max([*values, 0.0]) or 1.0)
    if legend:
        _legend(axes, source.data)


def _extents(regions: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """First token of each region, and the one after its last."""
    marks = [regions[key] for key in (*REGIONS, "end")]
    return dict(zip(REGIONS, pairwise(marks), strict=True))


def _legend(axes: Axes, data: Mapping[str, Any]) -> None:
    """Each region with its first words, in a line above the first panel's title."""
    response, places = data["episode"]["response"], data["boundaries"]
    starts = [*(places[key] for key in REGIONS), len(response)]
    extents = _extents(data["regions"])
    handles = []
    for (key, (name, shade)), (start, end) in zip(REGIONS.items(), pairwise(starts), strict=True):
        if extents[key][0] < extents[key][1]:
            words = textwrap.shorten(response[start:end], 34, placeholder="...")
            label = f'{name}: "{words}"'
            handles.append(axes.fill_between([], [], [], color=shade, linewidth=0, label=label))
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.27),
        ncols=len(handles),
        borderaxespad=0.1,
        handlelength=1.2,
        columnspacing=1.0,
    )


def _notes(source: Source) -> Iterator[str]:
    data = source.data
    episode, parts = data["episode"], data["boundaries"]
    response = " ".join(episode["response"].split())
    correction = " ".join(episode["response"][parts["correction"] : parts["on_topic"]].split())
    scores = " to ".join(f"{score:g}" for score in episode["scores"])
    yield (
        f"{source.title}, trial {episode['trial_id']}, scores {scores}. Grey: per token; line: "
        f"smoothed, alpha {ALPHA:g}. The text is fed once more with its boost on; read "
        "is the encoder's activation at the feature layer, not the boost, and may be 0."
    )
    yield f"Prompt: {episode['prompt']}"
    yield f"Response: {response}"
    yield f"Correction: {correction}"
    yield (
        f"Detectors chosen by {data['detectors']['method']}; boundaries: {parts['method']}. "
        "One episode, an illustration and no test."
    )


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
    sources = [source for source in sources if "episode" in source.data]
    drawn = [
        figure.compose(
            f"{NAME}_{source.model}" if place else NAME,
            EXPERIMENT,
            [(1.2, [_panel(source, *series)]) for series in source.data["series"].items()],
            _table(source),
            about=ABOUT,
            sources=[source],
            notes=_notes(source),
            width=style.PAGE_WIDTH,
        )
        for place, source in enumerate(sources)
    ]
    return drawn or [figure.compose(NAME, EXPERIMENT, [], pd.DataFrame(), about=ABOUT, sources=[])]


ABOUT = "One self-correcting episode, token by token (Figure 7 of the paper)."

main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
