"""The report folder: one page, one script, one style sheet, and scripts of transcripts per run."""

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
from plotting.report import tables, transcripts
from plotting.sources import DAMAGE, Source, left_out

ASSETS = ("page.css", "page.js")


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
    sources: Sequence[Source],
    rows: Sequence[Row],
    figures: Sequence[Figure],
    missing: Sequence[Missing],
    exclude_degraded: bool = False,
    notices: Sequence[str] = (),
) -> Path:
    """Write ``index.html`` and what belongs to it; figures and number files are there already.

    Args:
        folder: the report's.
        sources: newest first; those of experiment 1 come first in the browser.
        rows: published and measured numbers.
        figures: drawn.
        missing: not drawn.
        exclude_degraded: as the figures and numbers were made.
        notices: lines on runs that are not shown.

    Raises:
        UserError: the folder cannot be written to.
    """
    readable: list[Source] = []
    runs: list[dict[str, Any]] = []
    scripts: dict[str, str] = {}
    for source in sorted(sources, key=_place):
        try:
            run = tables.run(source, exclude_degraded)
            scripts |= transcripts.scripts(source) if run["trials"] else {}
        except DAMAGE as error:
            left_out(source.path, error)
        else:
            readable.append(source)
            runs.append(run)
    try:
        shutil.rmtree(folder / "transcripts", ignore_errors=True)
        for name in ("assets", "transcripts"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name in ASSETS:
            shutil.copyfile(Path(__file__).parent / name, folder / "assets" / name)
        for name, script in scripts.items():
            (folder / "transcripts" / name).write_text(script, encoding="ascii")
        data = transcripts.as_script("ESR.start", _data(runs, rows, figures))
        (folder / "assets" / "data.js").write_text(data, encoding="ascii")
        text = _render(
            organisms=list(dict.fromkeys(s.title for s in readable if s.organism)),
            headline=tables.headline(rows),
            verdict_line=tables.verdict_line(rows),
            numbers=tables.numbers(rows),
            runs=runs,
            trials=sum(run["trials"] for run in runs),
            example=transcripts.clearest(readable),
            figures=[_with_files(folder, figure) for figure in figures],
            drawn=len({figure.experiment for figure in figures}),
            missing=missing,
            exclude_degraded=exclude_degraded,
            notices=[line.removeprefix("warning: ") for line in notices],
        )
        page = folder / "index.html"
        # Half a character, which JSON can hold and UTF-8 cannot, is spelled out.
        page.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise cannot_write(folder, error) from error
    return page


def _place(source: Source) -> int:
    """The number that the heading of a run begins with; runs without one come last."""
    number = tables.heading(source).partition(" ")[0]
    return int(number) if number.isdecimal() else 99


def _data(
    runs: Sequence[dict[str, Any]], rows: Sequence[Row], figures: Sequence[Figure]
) -> dict[str, Any]:
    """What the script needs at the start."""
    hidden = ("provenance", "run_id", "started", "status")
    return {
        "runs": [{k: v for k, v in run.items() if k not in hidden} for run in runs],
        "figures": {str(figure.experiment): figure.anchor for figure in reversed(figures)},
        "numbers": sorted({str(row.published.experiment) for row in rows if row.measured}),
        "organism_note": style.ORGANISM_NOTE,
    }


def _render(**content: Any) -> str:
    environment = Environment(
        loader=PackageLoader("plotting.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["banner"] = _banner
    return environment.get_template("page.html").render(
        paper=document()["paper"],
        marks=document()["marks"],
        written=now(),
        organism_note=style.ORGANISM_NOTE,
        **content,
    )


def _banner(titles: Sequence[str]) -> Markup:
    """The note that every part with an organism in it carries."""
    note = style.organism_note(titles)
    return Markup('<p class="organism">{}.</p>').format(escape(note)) if note else Markup()


def _with_files(folder: Path, figure: Figure) -> dict[str, Any]:
    """A figure with its caption, and its size in pixels: the page must not jump while it loads."""
    header = (folder / f"{figure.name}.png").read_bytes()[16:24]
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (0, 4))
    caption = folder / f"{figure.name}.caption.md"
    text = caption.read_text(encoding="utf-8").replace("**", "") if caption.is_file() else ""
    return {
        **vars(figure),
        "anchor": figure.anchor,
        "width": width,
        "height": height,
        "wide": width > 300 * (style.COLUMN_WIDTH + 0.1),
        "csv": (folder / f"{figure.name}.csv").is_file(),
        "caption": [part for part in text.split("\n\n") if part.strip()],
    }
