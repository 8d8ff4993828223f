"""What a figure says, in the picture and beside it, and whether it is fit to print."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from esr.models import REGISTRY
from esr.runs.paths import REPOSITORY
from plotting import style
from plotting.figure import Drawn
from plotting.sources import Source

PAPER = ("70b", "gemma-27b", "gemma-9b", "gemma-2b", "8b")


def five(source: Source) -> list[Source]:
    """A run as if each of the paper's models had made it."""
    titles = {key: REGISTRY[key].title for key in PAPER}
    return [replace(source, model=k, title=t, organism=False) for k, t in titles.items()]


def texts(figure: Figure) -> str:
    """All text in the picture."""
    return " ".join(" ".join(t.get_text().split()) for t in figure.findobj(Text))


def said(drawn: Drawn) -> str:
    """All text in the picture and in its caption."""
    return f"{texts(drawn.figure)} {drawn.caption}"


def check(drawn: Drawn) -> None:
    """No text is cut off or lies over another, as the boxes around them tell."""
    assert clipped_text(drawn.figure) == []
    assert overlapping_text(drawn.figure) == []


@style.look()
def clipped_text(figure: Figure) -> list[str]:
    """Texts that reach the figure's edge: none in a figure that is fit to print."""
    width, height = figure.bbox.width, figure.bbox.height
    boxes = ((text.get_text(), text.get_window_extent()) for text in _shown_text(figure))
    return [
        text
        for text, box in boxes
        if box.x0 < 1 or box.y0 < 1 or box.x1 > width - 1 or box.y1 > height - 1
    ]


@style.look()
def overlapping_text(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie over each other: none in a figure that is fit to print."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in _shown_text(figure)]
    return [
        (a, b)
        for (a, first), (b, second) in combinations(boxes, 2)
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 0.5
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 0.5
    ]


def _shown_text(figure: Figure) -> list[Text]:
    figure.draw_without_rendering()
    hidden = {id(text) for axes in figure.axes for text in _ticks_out_of_view(axes)}
    texts = (text for text in figure.findobj(Text) if isinstance(text, Text))
    return [t for t in texts if id(t) not in hidden and t.get_visible() and t.get_text().strip()]


def _ticks_out_of_view(axes: Axes) -> Iterator[Text]:
    """Labels that Matplotlib keeps for ticks beyond the axis, but does not draw."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not axes.axison or not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def heavy_imports(code: str) -> str:
    """What code has imported in the end of torch, vLLM, Transformers and our engines."""
    told = (
        f"import sys; {code}; heavy = {{'torch', 'vllm', 'transformers', 'esr.engine'}}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    return done.stdout.strip()
