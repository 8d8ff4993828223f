"""The look of all figures: sizes, colours and settings.

Figures are made with Matplotlib's object interface (``matplotlib.figure.Figure``), which draws
with Agg and leaves no global state. Draw and save under :func:`look`, which decorates too.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from esr.runs.paths import HOME

COLUMN_WIDTH = 3.3
"""Inches: one column of a two-column paper. Text is set for this width."""

PAGE_WIDTH = 6.9
"""Inches: both columns."""

FIGURES = HOME / "figures"
"""Where figures go unless told otherwise."""

SMALL = 6.0
"""Points: notes and annotations."""

INK = "#222222"
FAINT = "#8a8a8a"
BASELINE = "#7d7d7d"
MARK = "#B00020"
DASHED = (0, (3, 2))

# Okabe and Ito's palette, which colour-blind readers can tell apart; one colour per family.
LLAMA, GEMMA, ORGANISM, OTHER = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
_COLOURS = {
    **dict.fromkeys(("70b", "8b"), LLAMA),
    **dict.fromkeys(("gemma-2b", "gemma-9b", "gemma-27b"), GEMMA),
    **dict.fromkeys(("tiny", "tiny-base", "tiny-restarts", "tiny-circuit"), ORGANISM),
}

ORGANISM_NOTE = "trained demonstration organism; not evidence about large models"

_RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7.0,
    "axes.titlesize": 7.0,
    "axes.labelsize": 6.5,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.0,
    "ytick.major.size": 2.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "pdf.fonttype": 42,
}


@contextmanager
def look() -> Iterator[None]:
    """The settings every figure is drawn and saved under."""
    with matplotlib.rc_context(_RC):
        yield


def colour(model: str) -> str:
    """Colour of a model's family, by registry key; grey for a model that is not registered."""
    return _COLOURS.get(model, OTHER)


def empty_panel(axes: Axes, note: str) -> None:
    """A panel for data that are missing: a note and nothing that looks like a measurement."""
    axes.clear()
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(FAINT)
        spine.set_linestyle((0, (2, 2)))
    axes.text(
        *(0.5, 0.5, textwrap.fill(note, 26, break_long_words=False)),
        transform=axes.transAxes,
        ha="center",
        va="center",
        color=FAINT,
        fontsize=SMALL,
    )


def base_title(title: str) -> str:
    """Title of the model that a fine-tuned one comes from; its own where it is not fine-tuned."""
    return title.partition(", fine-tuned")[0]


def organism_note(titles: Iterable[str]) -> str:
    """The note on organisms by their titles, fine-tuned ones under their base; empty for none."""
    names = "; ".join(dict.fromkeys(base_title(title) for title in titles))
    return names and f"{names}: {ORGANISM_NOTE}"
