"""The command line that all figure scripts share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from esr.errors import UserError
from plotting import style
from plotting.figure import Drawn, save
from plotting.selection import find_sources
from plotting.sources import DAMAGE, Source, left_out

EXCLUDE_DEGRADED = "leave out responses that repeat a word"
"""Help of the option that does."""

RunKey = Callable[[Mapping[str, Any]], Hashable]
"""Of ``run.json``, what runs must share for the newest to stand for the others."""


def by_model(info: Mapping[str, Any]) -> Hashable:
    """One run per model."""
    return str(info["model"])


def figure_command(
    experiment: str,
    about: str | None,
    draw: Callable[..., list[Drawn]],
    per: RunKey = by_model,
    beside: tuple[str, RunKey] | None = None,
    flags: Mapping[str, str] | None = None,
) -> Callable[..., int]:
    """The ``main`` of a figure script: find the runs, draw, save.

    Args:
        experiment: package name.
        about: the script's docstring; its first paragraph stands in ``--help``.
        draw: the figures of a list of :class:`Source`; without sources it draws empty panels.
        per: which runs stand beside each other.
        beside: another experiment whose runs ``draw`` gets as well, after those of the first, and
            its ``per``.
        flags: further options of ``draw``, true or false: name and help.

    Returns:
        a function of the command line, which returns 0 if something was drawn from data, 1 if
        there was nothing, 2 on bad input.
    """
    parser = argparse.ArgumentParser(
        description=" ".join((about or "").partition("\n\n")[0].split())
    )
    add_options(parser)
    for name, text in (flags or {}).items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)

    def main(argv: Sequence[str] | None = None) -> int:
        options = vars(parser.parse_args(argv))
        where, folder = options.pop("results"), options.pop("output")
        chosen = {"runs": options.pop("run"), **{k: options.pop(k) for k in ("model", "judge")}}
        try:
            sources = find_sources(experiment, where, per, **chosen)
            others = find_sources(beside[0], where, beside[1], **chosen) if beside else []
            # A run that is named by its path is found for either experiment.
            named = {source.path for source in sources}
            figures, drawn = draw_readable(
                draw, [*sources, *(s for s in others if s.path not in named)], options
            )
            paths = [path for each in figures for path in save(each, folder)]
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        print("\n".join([*(each.report for each in figures if each.report), *map(str, paths)]))
        if any(source in drawn for source in sources):
            return 0
        print(
            f"no complete run of {experiment} with the default settings; "
            f"run: python -m {experiment} tiny",
            file=sys.stderr,
        )
        return 1

    return main


def draw_readable(
    draw: Callable[..., list[Drawn]], sources: Sequence[Source], options: Mapping[str, bool]
) -> tuple[list[Drawn], Sequence[Source]]:
    """The figures of the runs that can be drawn, and these; others are told in one line each."""
    try:
        return draw(sources, **options), sources
    except DAMAGE:
        drawable = []
        for source in sources:
            try:
                draw([source], **options)
            except DAMAGE as error:
                left_out(source.path, error)
            else:
                drawable.append(source)
        if len(drawable) == len(sources):
            raise
        return draw(drawable, **options), drawable


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that choose runs and the folder to write to."""
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="results folders, run folders or results files (default: data/results)",
    )
    parser.add_argument(
        "--run",
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="run folders or results files in place of the newest complete default runs",
    )
    parser.add_argument("--model", default="", metavar="KEY", help="only this model")
    parser.add_argument("--judge", default="", metavar="ID", help="only runs with this judge")
    parser.add_argument("--output", type=Path, default=style.FIGURES, help="folder to write to")
