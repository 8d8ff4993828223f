"""The scaffold of every figure: panels in rows, a mark in the corner, a caption, its files.

A script says what is drawn into which panel. The picture holds what a journal would print; the
caption, a file beside it, holds the rest.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from esr.errors import cannot_write
from esr.runs.same_settings import as_options
from plotting import style
from plotting.selection import unusual
from plotting.sources import Source, differing_settings

PAD = 0.04
"""Inches around every panel and text."""

LONGEST = 32
"""Characters of the mark in an inch, at most."""


SAID = {"seed": 0, "engine": "vllm", "in_flight": 64}
"""Options that do not decide whether a run is shown, with their defaults."""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        draw: draws into it; None where there is nothing to draw.
        title: above it.
        model: registry key, for the colour of the title.
        x: label of the axis.
        y: likewise.
        empty: said instead of drawing, where there are no data.
    """

    draw: Callable[[Axes], object] | None
    title: str = ""
    model: str = ""
    x: str = ""
    y: str = ""
    empty: str = ""


Row = tuple[float, Sequence[Panel | None]]
"""Height in inches with titles and labels, and the panels beside each other; None leaves a gap."""


@dataclass(frozen=True)
class Drawn:
    """A figure, the numbers it shows, the name of its files, and what the terminal says."""

    name: str
    figure: Figure
    table: pd.DataFrame
    caption: str = ""
    report: str = ""


@style.look()
def compose(
    name: str,
    experiment: str,
    rows: Sequence[Row],
    table: pd.DataFrame,
    *,
    about: str,
    sources: Sequence[Source],
    notes: Iterable[str] = (),
    width: float = style.COLUMN_WIDTH,
    report: str = "",
    **layout: Any,
) -> Drawn:
    """A figure of the given panels; without rows it is one panel that says there are no data.

    Args:
        name: of its files.
        experiment: package whose runs are drawn.
        rows: from top to bottom.
        table: the plotted numbers.
        about: first sentence of the caption.
        sources: runs that are drawn; their organisms and unusual settings are marked.
        notes: paragraphs of the caption; empty ones are left out.
        width: inches.
        report: for the terminal.
        layout: as ``Figure.subplots`` takes it.
    """
    missing = Panel(None, empty=f"no complete run of {experiment}")
    filled = list(rows) or [(1.3, [missing])]
    heights = [height for height, _ in filled]
    picture = Figure((width, 1), layout=ConstrainedLayoutEngine(w_pad=PAD, h_pad=PAD))
    room = _mark(picture, [*organisms(sources), *unusual_settings(sources)])
    picture.set_size_inches(width, sum(heights) + room)
    columns = max(len(panels) for _, panels in filled)
    grid = picture.subplots(
        len(filled), columns, squeeze=False, height_ratios=heights, **layout if rows else {}
    )
    none: list[Panel | None] = [None] * columns
    cells = [[*panels, *none[len(panels) :]] for _, panels in filled]
    for line, panels, below in zip(grid, cells, [*cells[1:], none], strict=True):
        for axes, panel, under in zip(line, panels, below, strict=True):
            _fill(axes, panel, under)
    paragraphs = [f"**{about}**", *notes, *_provenance(sources)]
    caption = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return Drawn(name, picture, table, caption + "\n", report)


def _fill(axes: Axes, panel: Panel | None, under: Panel | None) -> None:
    """Draw a panel; what is said of its axis below the one under it is not said twice."""
    if panel is None:
        axes.set_axis_off()
        return
    if panel.empty or panel.draw is None:
        style.empty_panel(axes, panel.empty)
    else:
        panel.draw(axes)
        same = under is not None and under.x == panel.x and not under.empty
        axes.set_xlabel("" if same else panel.x)
        axes.set_ylabel(panel.y)
    weight, ink = ("bold", style.colour(panel.model)) if panel.model else ("normal", style.INK)
    axes.set_title(panel.title, loc="left", fontweight=weight, color=ink)


def organisms(sources: Iterable[Source]) -> list[str]:
    """What must be said where an organism is drawn."""
    note = style.organism_note(source.title for source in sources if source.organism)
    return [note] if note else []


def unusual_settings(sources: Sequence[Source]) -> list[str]:
    """What is not the default, such as "8B: --seed 3"; said once where all runs agree."""
    by_options: dict[str, list[str]] = {}
    for source in sources:
        given = {name: source.settings.get(name) for name in SAID}
        said = {k: v for k, v in given.items() if v not in (None, SAID[k])}
        settings = {**(unusual(source.metadata) if source.metadata else {}), **said}
        by_options.setdefault(as_options(settings), []).append(source.title)
    if len(by_options) == 1:
        return [options for options in by_options if options]
    titles = ((", ".join(dict.fromkeys(t)), options) for options, t in by_options.items())
    return [f"{title}: {options}" for title, options in titles if options]


def _provenance(sources: Sequence[Source]) -> Iterator[str]:
    """Organisms, judge, and settings that are not the default or differ between the runs."""
    yield from (f"{note}." for note in organisms(sources))
    names = dict.fromkeys(str(s.settings.get("judge_id") or "not recorded") for s in sources)
    if len(names) == 1:
        yield f"Judge: {next(iter(names))}."
    if settings := unusual_settings(sources):
        yield f"Settings that are not the default: {'; '.join(settings)}."
    yield differing_settings(sources)


def _mark(figure: Figure, lines: Sequence[str]) -> float:
    """Small lines in the lower left corner, as long as fit. Returns the inches they take."""
    if not lines:
        return 0.0
    text = figure.supxlabel("", fontsize=5, x=0.01, ha="left", color=style.MARK)
    width = figure.get_figwidth()
    for characters in range(int(LONGEST * width), 0, -1):
        text.set_text("\n".join(textwrap.fill(line, characters) for line in lines))
        box = text.get_window_extent()
        if box.x0 > 1 and box.x1 < figure.dpi * (width - PAD):
            break
    return box.height / figure.dpi + 2 * PAD


def title(source: Source) -> str:
    """Of a run, marked where it is not complete."""
    return source.title if source.status == "complete" else f"{source.title} ({source.status})"


@style.look()
def save(drawn: Drawn, folder: Path) -> list[Path]:
    """Write ``name.png`` (300 dpi), ``name.pdf``, ``name.csv`` and ``name.caption.md``.

    The same figure, table and caption give the same bytes.

    Raises:
        UserError: the folder cannot be written to.
    """
    kinds = ("png", "pdf", "csv", "caption.md")
    png, pdf, csv, caption = paths = [folder / f"{drawn.name}.{kind}" for kind in kinds]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        drawn.figure.savefig(png, dpi=300, metadata={"Software": None})
        drawn.figure.savefig(pdf, metadata={"CreationDate": None})
        drawn.table.to_csv(csv, index=False)
        caption.write_text(drawn.caption, encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return paths
