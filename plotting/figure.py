"""The scaffold of every figure: its grid, the mark of organisms, the notes below, its files.

A figure says how high its rows are; the room for mark and notes is measured.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from numpy.typing import NDArray

from esr.errors import cannot_write
from plotting import style
from plotting.sources import Source, differing_settings

PAD = 0.04
"""Inches around every panel and text."""

LONGEST = 28
"""Characters of a note in an inch, at most."""


@dataclass(frozen=True)
class Drawn:
    """A figure, the numbers it shows, the name of its files, and what the terminal says."""

    name: str
    figure: Figure
    table: pd.DataFrame
    report: str = ""


def grid(
    experiment: str,
    heights: Sequence[float],
    columns: int = 1,
    *,
    sources: Sequence[Source] = (),
    notes: Iterable[str] = (),
    width: float = style.COLUMN_WIDTH,
    **layout: Any,
) -> tuple[Figure, NDArray[Any]]:
    """A figure with its mark and its notes, and its panels: [n_rows, n_columns].

    Without rows the figure is one row of panels that say that there are no data, and no panel is
    returned.

    Args:
        experiment: package name, for empty panels.
        heights: of the rows, with their titles and labels; inches.
        columns: panels beside each other.
        sources: runs that are drawn; the organisms among them are marked above the figure.
        notes: paragraphs below the figure; empty ones are left out.
        width: inches.
        layout: as ``Figure.subplots`` takes it.
    """
    rows = [*heights] or [1.3]
    figure = Figure((width, 1), layout=ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD))
    room = _mark(figure, sources) + (_notes(figure, notes) if heights else 0.0)
    figure.set_size_inches(width, sum(rows) + room)
    panels = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows, **layout)
    if not heights:
        for axes in panels.flat:
            style.empty_panel(axes, f"no complete run of {experiment}")
        return figure, panels[:0]
    return figure, panels


def _mark(figure: Figure, sources: Iterable[Source]) -> float:
    """Mark organisms above the figure. Returns the inches it takes."""
    note = style.organism_note(source.title for source in sources if source.organism)
    if not note:
        return 0.0
    text = figure.suptitle("", fontsize=6.5, fontweight="bold", color="#B00020")
    return _fill(text, [note])


def _notes(figure: Figure, notes: Iterable[str]) -> float:
    """Notes below the figure, one paragraph each. Returns the inches they take."""
    paragraphs = [note for note in notes if note]
    if not paragraphs:
        return 0.0
    text = figure.supxlabel("", fontsize=5.6, x=0.01, ha="left", linespacing=1.25)
    return _fill(text, paragraphs)


def _fill(text: Text, paragraphs: Sequence[str]) -> float:
    """Set paragraphs in the longest lines that fit. Returns the inches they take."""
    figure = text.get_figure(root=True)
    assert figure is not None
    width = figure.get_figwidth()
    for characters in range(int(LONGEST * width), 0, -1):
        text.set_text("\n".join(textwrap.fill(each, characters) for each in paragraphs))
        box = text.get_window_extent()
        if box.x0 > 1 and box.x1 < figure.dpi * (width - PAD):
            break
    return box.height / figure.dpi + 2 * PAD


def heading(axes: Axes, text: str, model: str) -> None:
    """Title of a panel, in the colour of the model."""
    axes.set_title(text, loc="left", fontweight="bold", color=style.colour(model))


def title(source: Source) -> str:
    """Of a run, marked where it is not complete."""
    return source.title if source.status == "complete" else f"{source.title} ({source.status})"


def judges(sources: Sequence[Source]) -> list[str]:
    """Notes on the judge, and on all settings in which the runs differ."""
    names = dict.fromkeys(str(s.settings.get("judge_id") or "not recorded") for s in sources)
    notes = [f"Judge: {next(iter(names))}."] if len(names) == 1 else []
    return [*notes, differing_settings(sources)]


@style.look()
def save(drawn: Drawn, folder: Path) -> list[Path]:
    """Write ``name.png`` (300 dpi), ``name.pdf`` and ``name.csv`` with the plotted numbers.

    The same figure and table give the same bytes.

    Raises:
        UserError: the folder cannot be written to.
    """
    png, pdf, csv = paths = [folder / f"{drawn.name}.{kind}" for kind in ("png", "pdf", "csv")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn.figure.savefig(png, dpi=300, metadata={"Software": None})
        drawn.figure.savefig(pdf, metadata={"CreationDate": None})
        drawn.table.to_csv(csv, index=False)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return paths


@style.look()
def clipped_text(figure: Figure) -> list[str]:
    """Texts that reach the figure's edge: none in a figure that is fit to print."""
    figure.draw_without_rendering()
    width, height = figure.bbox.width, figure.bbox.height
    hidden = {id(text) for axes in figure.axes for text in _ticks_out_of_view(axes)}
    clipped = []
    for text in figure.findobj(Text):
        if id(text) in hidden or not text.get_visible() or not text.get_text().strip():
            continue
        box = text.get_window_extent()
        if box.x0 < 1 or box.y0 < 1 or box.x1 > width - 1 or box.y1 > height - 1:
            clipped.append(text.get_text())
    return clipped


def _ticks_out_of_view(axes: Axes) -> Iterator[Text]:
    """Labels that Matplotlib keeps for ticks beyond the axis, but does not draw."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)
