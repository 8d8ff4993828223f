"""The command line that the figures of most experiments share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from esr.errors import UserError
from plotting import style
from plotting.sources import Source, find_sources


@dataclass(frozen=True)
class Drawn:
    """A figure, the numbers it shows, and the name of its files."""

    name: str
    figure: Figure
    table: pd.DataFrame


def _model(facts: Mapping[str, Any]) -> Hashable:
    return str(facts["model"])


def figure_command(
    experiment: str,
    about: str,
    draw: Callable[[Sequence[Source]], list[Drawn]],
    argv: Sequence[str] | None = None,
    per: Callable[[Mapping[str, Any]], Hashable] = _model,
    beside: tuple[str, Callable[[Mapping[str, Any]], Hashable]] | None = None,
) -> int:
    """Find the runs of an experiment, draw its figures and save them.

    Args:
        experiment: package name.
        about: one line for ``--help``.
        draw: the figures; also called without sources, to draw empty panels.
        argv: the command line.
        per: see :func:`plotting.sources.find_sources`.
        beside: another experiment whose runs ``draw`` gets as well, after those of the first, and
            its ``per``.

    Returns:
        0 if something was drawn from data, 1 if there was nothing, 2 on bad input.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(
        *("--results",),
        type=Path,
        nargs="+",
        default=[],
        metavar="PATH",
        help="results folder, run folders or results files (default: data/results)",
    )
    parser.add_argument("--output", type=Path, default=style.FIGURES, help="folder for the figures")
    options = parser.parse_args(argv)
    try:
        sources = find_sources(experiment, options.results, per)
        others = find_sources(beside[0], options.results, beside[1]) if beside else []
        # A run that is named by its path is found for either experiment.
        named = {source.path for source in sources}
        others = [source for source in others if source.path not in named]
        for drawn in draw([*sources, *others]):
            for path in style.save(drawn.figure, drawn.table, options.output, drawn.name):
                print(path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not sources:
        print(f"no complete run of {experiment}; run: python -m {experiment} tiny", file=sys.stderr)
    return 0 if sources else 1
