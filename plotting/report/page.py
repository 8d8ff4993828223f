"""The report folder: page, scripts, styles, and one script of transcripts per run."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup, escape

from esr.errors import cannot_write
from esr.runs.provenance import now
from plotting import style
from plotting.published import Row, document
from plotting.report import example, tables, transcripts
from plotting.sources import Source

ASSETS = Path(__file__).parent / "static"
STYLES = ("base.css", "page.css", "transcripts.css")
SCRIPTS = ("store.js", "dom.js", "filters.js", "list.js", "trial.js", "data.js", "main.js")
"""In the order they are loaded; ``data.js`` is written, the others are copied."""


@dataclass(frozen=True)
class Figure:
    """One figure in the report folder.

    Attributes:
        name: of its files, without ending.
        title: what it shows.
        paper: figures of the paper it stands for.
        experiment: number.
        note: what must be said of it.
    """

    name: str
    title: str
    paper: str
    experiment: int
    note: str = ""

    @property
    def anchor(self) -> str:
        """Its place in the page."""
        return f"figure-{self.name.replace('_', '-')}"


@dataclass(frozen=True)
class Missing:
    """A figure without data, why, and the command that would make it."""

    title: str
    paper: str
    reason: str
    command: str


def write(
    folder: Path,
    runs: Sequence[Source],
    rows: Sequence[Row],
    figures: Sequence[Figure],
    missing: Sequence[Missing],
    exclude_degraded: bool = False,
    notices: Sequence[str] = (),
) -> Path:
    """Write ``index.html`` and what belongs to it; figures and number files are there already.

    Args:
        folder: the report's.
        runs: newest first; those of experiment 1 come first in the browser.
        rows: published and measured numbers.
        figures: drawn.
        missing: not drawn.
        exclude_degraded: as the figures and numbers were made.
        notices: lines on runs that are not shown.

    Raises:
        UserError: the folder cannot be written to.
    """
    ordered = sorted(runs, key=lambda run: run.experiment or 99)
    facts = [transcripts.run_facts(run, exclude_degraded) for run in ordered]
    try:
        assets = folder / "assets"
        assets.mkdir(parents=True, exist_ok=True)
        for name in (*STYLES, *SCRIPTS):
            if name != "data.js":
                shutil.copyfile(ASSETS / name, assets / name)
        data = _data(facts, rows, figures)
        (assets / "data.js").write_text(transcripts.as_script("ESR.boot", data), encoding="ascii")
        shutil.rmtree(folder / "transcripts", ignore_errors=True)
        for run, known in zip(ordered, facts, strict=True):
            if known["trials"]:
                transcripts.write(run, folder)
        page = folder / "index.html"
        text = _render(folder, ordered, facts, rows, figures, missing, exclude_degraded, notices)
        page.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return page


def _data(
    facts: Sequence[dict[str, Any]], rows: Sequence[Row], figures: Sequence[Figure]
) -> dict[str, Any]:
    """What the scripts need at the start."""
    first: dict[str, str] = {}
    for figure in figures:
        first.setdefault(str(figure.experiment), figure.anchor)
    measured = {str(row.published.experiment) for row in rows if row.measured}
    return {
        "runs": list(facts),
        "titles": document()["experiments"],
        "figures": first,
        "numbers": sorted(measured),
        "organism_note": style.ORGANISM_NOTE,
    }


def _render(
    folder: Path,
    runs: Sequence[Source],
    facts: Sequence[dict[str, Any]],
    rows: Sequence[Row],
    figures: Sequence[Figure],
    missing: Sequence[Missing],
    exclude_degraded: bool,
    notices: Sequence[str],
) -> str:
    environment = Environment(
        loader=PackageLoader("plotting.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["banner"] = _banner
    return environment.get_template("index.html").render(
        paper=document()["paper"],
        marks=document()["marks"],
        made=now(),
        styles=STYLES,
        scripts=SCRIPTS,
        organisms=list(dict.fromkeys(run.title for run in runs if run.organism)),
        organism_note=style.ORGANISM_NOTE,
        headline=tables.headline(rows),
        verdict_line=tables.verdict_line(rows),
        numbers=tables.numbers(rows),
        runs=tables.runs(runs, facts),
        trials=sum(known["trials"] for known in facts),
        example=example.clearest(runs),
        figures=[_with_size(folder, figure) for figure in figures],
        drawn=len({figure.experiment for figure in figures}),
        missing=missing,
        exclude_degraded=exclude_degraded,
        notices=notices,
    )


def _banner(titles: Sequence[str]) -> Markup:
    """The note that every part with an organism in it carries."""
    note = style.organism_note(titles)
    return Markup('<p class="organism">{}.</p>').format(escape(note)) if note else Markup()


def _with_size(folder: Path, figure: Figure) -> dict[str, Any]:
    """A figure with its size in pixels, so that the page does not jump while it loads."""
    header = (folder / f"{figure.name}.png").read_bytes()[16:24]
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    return {
        **vars(figure),
        "anchor": figure.anchor,
        "width": width,
        "height": height,
        "wide": width > 300 * (style.COLUMN_WIDTH + 0.1),
        "csv": (folder / f"{figure.name}.csv").is_file(),
    }
