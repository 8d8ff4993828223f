"""The look of all figures, and the one way to save them: PNG, PDF and CSV side by side.

Figures are made with Matplotlib's object interface (``matplotlib.figure.Figure``), which draws
with Agg and leaves no global state. Draw and save inside :func:`look`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from esr.analysis.intervals import Interval
from esr.errors import cannot_write
from esr.runs.paths import REPOSITORY

COLUMN_WIDTH = 3.4
"""Inches: one column of a two-column paper. Text is set for this width."""

PAGE_WIDTH = 7.0
"""Inches: both columns."""

FIGURES = REPOSITORY / "figures"
"""Where figures go unless told otherwise."""

SMALL = 6.0
"""Points: notes and annotations."""

INK = "#222222"
FAINT = "#8a8a8a"

# Okabe and Ito's palette, which colour-blind readers can tell apart; one colour per family.
LLAMA, GEMMA, ORGANISM, OTHER = "#0072B2", "#D55E00", "#009E73", "#7F7F7F"
_COLOURS = {
    **dict.fromkeys(("70b", "8b"), LLAMA),
    **dict.fromkeys(("gemma-2b", "gemma-9b", "gemma-27b"), GEMMA),
    **dict.fromkeys(("tiny", "tiny-base"), ORGANISM),
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


def new_figure(height: float, width: float = COLUMN_WIDTH) -> Figure:
    """An empty figure, in inches, with a layout that keeps labels inside."""
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.04)
    return Figure(figsize=(width, height), layout=layout)


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


def note_lines(notes: Iterable[str], width: float) -> int:
    """Lines that notes take below a figure ``width`` inches wide, to leave room for them."""
    return sum(1 + len(note) // int(24 * width) for note in notes)


def footnotes(figure: Figure, notes: Iterable[str], organism: Iterable[str] = ()) -> None:
    """Notes below the figure, and a banner above it where models are organisms.

    Args:
        figure: gets its layout from :func:`new_figure`.
        notes: one paragraph each.
        organism: titles of the models that are trained demonstration organisms.
    """
    width = int(figure.get_figwidth() * 23)
    lines = [textwrap.fill(note, width) for note in notes if note]
    if lines:
        figure.supxlabel(
            "\n".join(lines), fontsize=5.6, color=INK, x=0.01, ha="left", linespacing=1.25
        )
    if note := organism_note(organism):
        figure.suptitle(
            textwrap.fill(note, int(width * 0.72)),
            fontsize=6.5,
            fontweight="bold",
            color="#B00020",
        )


@dataclass(frozen=True)
class Bar:
    """One horizontal bar with its n and up to two intervals, all as shares 0 to 1.

    Attributes:
        label: what it measures.
        value: NaN draws nothing but says so.
        count: numerator, printed.
        n: denominator, printed.
        thick: the paper's interval, 1.96 binomial standard errors.
        thin: the honest one: clustered by latent.
        thin_dotted: the thin interval is a stand-in of another kind, such as Wilson's.
        colour: of the bar.
    """

    label: str
    value: float
    count: int
    n: int
    colour: str
    thick: Interval | None = None
    thin: Interval | None = None
    thin_dotted: bool = False

    @property
    def top(self) -> float:
        """Largest share that is drawn."""
        ends = [i.high for i in (self.thick, self.thin) if i is not None]
        return max((v for v in (self.value, *ends) if v == v), default=0.0)


def horizontal_bars(axes: Axes, bars: Sequence[Bar], limit: float) -> None:
    """Bars in per cent, from top to bottom, each under a line with its label, value and n.

    Args:
        axes: emptied of y ticks.
        bars: what to draw.
        limit: right end of the axis, as a share.
    """
    for row, bar in enumerate(reversed(bars)):
        defined = bar.value == bar.value
        value = f"{_percent(bar.value)} % ({bar.count:,}/{bar.n:,})" if defined else "none graded"
        axes.annotate(
            f"{bar.label}: {value}",
            xy=(0.0, row + 0.24),
            xytext=(2, 0),
            textcoords="offset points",
            fontsize=SMALL,
            va="bottom",
        )
        if not defined:
            continue
        axes.barh(row, 100 * bar.value, height=0.4, color=bar.colour, alpha=0.75, linewidth=0)
        if bar.thick is not None:
            ends = [100 * max(0.0, bar.thick.low), 100 * bar.thick.high]
            axes.plot(ends, [row, row], color=FAINT, linewidth=3.2, solid_capstyle="butt", zorder=3)
        if bar.thin is not None:
            low, high = 100 * max(0.0, bar.thin.low), 100 * bar.thin.high
            style = ":" if bar.thin_dotted else "-"
            axes.plot([low, high], [row, row], color=INK, linewidth=0.9, linestyle=style, zorder=4)
            axes.plot(
                [low, high],
                [row, row],
                "|",
                color=INK,
                markersize=4.5,
                markeredgewidth=0.9,
                zorder=4,
            )
    axes.set_ylim(-0.4, len(bars) - 0.25)
    axes.set_xlim(0, 100 * limit)
    axes.set_yticks([])


def _percent(share: float) -> str:
    return f"{100 * share:.2f}" if share < 0.1 else f"{100 * share:.1f}"


def save(figure: Figure, table: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write ``name.png`` (300 dpi), ``name.pdf`` and ``name.csv`` with the plotted numbers.

    The same figure and table give the same bytes.

    Raises:
        UserError: the folder cannot be written to.
    """
    paths = [folder / f"{name}.{kind}" for kind in ("png", "pdf", "csv")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with look():
            figure.savefig(paths[0], dpi=300, metadata={"Software": None})
            figure.savefig(paths[1], metadata={"CreationDate": None})
        table.to_csv(paths[2], index=False)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return paths


def clipped_text(figure: Figure) -> list[str]:
    """Texts that reach the figure's edge: none in a figure that is fit to print."""
    with look():
        figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    hidden = {id(text) for axes in figure.axes for text in _ticks_out_of_view(axes)}
    found = []
    for text in figure.findobj(Text):
        if id(text) in hidden or not text.get_visible() or not text.get_text().strip():
            continue
        box = text.get_window_extent()
        if box.x0 < 1 or box.y0 < 1 or box.x1 > width - 1 or box.y1 > height - 1:
            found.append(text.get_text())
    return found


def _ticks_out_of_view(axes: Axes) -> Iterator[Text]:
    """Labels that Matplotlib keeps for ticks beyond the axis, but does not draw."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)
