"""Progress: a bar on a terminal; elsewhere, as in a log of a scheduler, a line a minute."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tqdm import tqdm

MINUTE = 60.0
"""Seconds between two lines of a log."""

LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {elapsed} passed, {remaining} left{postfix}"
UNBOUNDED = "{desc}: {n_fmt} {unit}s, {elapsed} passed{postfix}"

_open: list[tqdm[Any]] = []


class Lines:
    """A stream on which a bar writes whole lines, one below the other."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.last = ""

    def write(self, text: str) -> None:
        """One line, without what moves a cursor; the same line twice is written once."""
        line = text.strip("\r\n ")
        if line and line != self.last:
            self.stream.write(f"{line}\n")
            self.last = line

    def flush(self) -> None:
        """As a stream has it."""
        self.stream.flush()


@contextmanager
def bar(
    total: int | None, description: str, unit: str, *, quiet: bool = False
) -> Iterator[tqdm[Any]]:
    """A bar on the error stream.

    Args:
        total: steps; None where that is not known. Without any steps nothing is shown.
        description: of what is done.
        unit: a step, in the singular.
        quiet: show nothing.
    """
    options: dict[str, Any] = {"dynamic_ncols": True}
    if not sys.stderr.isatty():
        options = {
            "file": Lines(sys.stderr),
            "mininterval": MINUTE,
            "maxinterval": MINUTE,
            "bar_format": UNBOUNDED if total is None else LINE,
        }
    shown = tqdm(total=total, desc=description, unit=unit, disable=quiet or total == 0, **options)
    with shown as opened:
        _open.append(opened)
        try:
            yield opened
        finally:
            _open.remove(opened)


@contextmanager
def saying(text: str) -> Iterator[None]:
    """What is waited for while a bar does not move; the time it takes is not the bar's."""
    shown = next((each for each in reversed(_open) if not each.disable), None)
    if shown is None:
        yield
        return
    description = shown.desc
    shown.set_description_str(text)
    yield
    shown.set_description_str(description, refresh=False)
    shown.unpause()
