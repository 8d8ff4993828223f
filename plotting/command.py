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
from plotting.sources import find_sources

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
    parser.add_argument(
        *("--results",),
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="results folder, run folders or results files (default: data/results)",
    )
    parser.add_argument("--output", type=Path, default=style.FIGURES, help="folder for the figures")
    for name, text in (flags or {}).items():
        parser.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=text)

    def main(argv: Sequence[str] | None = None) -> int:
        options = vars(parser.parse_args(argv))
        where, folder = options.pop("results"), options.pop("output")
        try:
            sources = find_sources(experiment, where, per)
            others = find_sources(beside[0], where, beside[1]) if beside else []
            # A run that is named by its path is found for either experiment.
            named = {source.path for source in sources}
            figures = draw([*sources, *(s for s in others if s.path not in named)], **options)
            paths = [path for drawn in figures for path in save(drawn, folder)]
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        print("\n".join([*(drawn.report for drawn in figures if drawn.report), *map(str, paths)]))
        if not sources:
            print(
                f"no complete run of {experiment}; run: python -m {experiment} tiny",
                file=sys.stderr,
            )
        return 0 if sources else 1

    return main
