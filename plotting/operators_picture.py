"""Every steering operator as arrows in the plane of its direction: docs/images/operators.png.

python -m plotting.operators_picture [FOLDER]

No measurement: what each operator does to a grid of rows, drawn by the arithmetic that steers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.engine.transformers import SteeringHook
from esr.runs.paths import REPOSITORY
from esr.steering.direction import ClassStatistics, Direction, Fit
from esr.steering.interventions import Row
from esr.steering.operators import OPERATORS, Steer
from esr.steering.rows import of_vectors
from esr.steering.scope import END
from plotting import style

NAME = "operators"
STRENGTHS = {
    **{"diffmean": 0.5, "swfc": 0.5, "sttp": 1.0, "stmp": 1.0, "floor": 1.0, "cap": 1.0},
    **{"pin": 1.0, "ablate": 1.0, "rotate": 50.0, "selective": 50.0, "probe": 2.2, "random": 0.5},
}
"""Strength of each panel, chosen so that arrows can be seen."""

NOT_DRAWN = ("selective",)
"""The same as :func:`esr.steering.operators.rotate`, at fewer layers."""

POSITIVE, NEGATIVE = ClassStatistics(50, 1.2, 0.4), ClassStatistics(50, -1.0, 0.4)
LIMIT = 2.6


def direction(operator: str) -> Direction:
    """The first axis of the plane, and the second; for ``random`` a slanted one."""
    angle = 2.2 if operator == "random" else 0.0
    axis = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
    second = torch.stack([-axis[1], axis[0]])
    fits = (
        Fit(0, norm=2.2, positive=POSITIVE, negative=NEGATIVE, boundary=0.1, slope=2.0),
        Fit(
            0,
            "second",
            positive=ClassStatistics(50, 0.9, 0.4),
            negative=ClassStatistics(50, 0.6, 0.4),
        ),
    )
    return Direction("example", torch.stack([axis, second]), fits, "logistic")


def moved(operator: str, points: torch.Tensor) -> torch.Tensor:
    """Where rows of the plane go: [n, 2]."""
    of = direction(operator)
    slots = Steer(of, operator, STRENGTHS[operator]).slots
    everywhere = (0, END)
    rows = [Row(index, of.digest) for index in range(len(of.vectors))]
    hook = SteeringHook([], everywhere, rows, of_vectors(of.vectors))
    return points + torch.stack([hook.change(points, slot) for slot in slots]).sum(0)


def _panel(axes: Axes, operator: str) -> None:
    # Staggered, so that arrows of one height do not lie on each other.
    points = torch.tensor(
        [(-2.1 + 0.35 * row + 1.5 * k, -2 + row * 4 / 6) for row in range(7) for k in range(3)]
    )
    after = moved(operator, points)
    change = (after - points).numpy()
    still = np.linalg.norm(change, axis=1) < 1e-6
    x, y = points.numpy().T
    axes.axvline(0.1, color=style.FAINT, linestyle=style.DASHED, linewidth=0.6)
    for mean, colour in ((POSITIVE.mean, style.ORGANISM), (NEGATIVE.mean, style.BASELINE)):
        axes.axvspan(mean - 0.4, mean + 0.4, color=colour, alpha=0.13, linewidth=0)
    axes.plot(x[still], y[still], "o", color=style.FAINT, markersize=1.6)
    axes.quiver(
        *(x[~still], y[~still], *change[~still].T),
        angles="xy",
        scale_units="xy",
        scale=1,
        color=style.LLAMA,
        width=0.006,
        headwidth=4,
    )
    axes.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal", xticks=[], yticks=[])
    unit = "°" if operator == "rotate" else ""
    axes.set_title(f"{operator}, a = {STRENGTHS[operator]:g}{unit}")


@style.look()
def draw() -> Figure:
    """A panel per operator."""
    names = [name for name in OPERATORS if name not in NOT_DRAWN]
    columns = 4
    rows = -(-len(names) // columns)
    picture = Figure((style.PAGE_WIDTH, 1.85 * rows), layout="constrained")
    grid = picture.subplots(rows, columns).ravel()
    for axes, name in zip(grid, names, strict=False):
        _panel(axes, name)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    grid[len(names)].text(
        *(0.0, 0.95),
        "across: projection on the direction\nup: the plane's second vector\n"
        "dashed: boundary m\ngrey: other texts, mean ± sd\ngreen: texts about the concept\n"
        "dots: rows that are left alone",
        va="top",
        fontsize=style.SMALL,
        transform=grid[len(names)].transAxes,
    )
    return picture


def main(folder: Path) -> Path:
    """Write the picture; returns its path."""
    path = folder / f"{NAME}.png"
    picture = draw()
    with style.look():
        picture.savefig(path, dpi=200, metadata={"Software": None})
    return path


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPOSITORY / "docs" / "images"))
