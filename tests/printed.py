"""What a figure says, in the picture and beside it, and whether it is fit to print."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.text import Text

from plotting.figure import Drawn, clipped_text, overlapping_text


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
