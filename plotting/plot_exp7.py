"""Figures A.4 to A.6 of the paper: the same responses before several judges.

python plotting/plot_exp7.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis.agreement import Estimate, paired
from plotting import style
from plotting.command import Drawn, figure_command
from plotting.cross_judge import (
    EXPERIMENT,
    MOST,
    ORIGINAL,
    RATES,
    Group,
    Run,
    count_matrix,
    groups,
    tables,
)
from plotting.sources import Source

COLUMNS = (
    ("multi-attempt:\nagree", "multi", True),
    ("multi-attempt:\nkappa", "multi_kappa", False),
    ("improved:\nagree", "improved", True),
    ("improved:\nkappa", "improved_kappa", False),
    ("both multi:\nsame direction", "direction", True),
    ("multi-attempt:\nconfirmed", "confirmed", True),
)
"""Columns of the table: heading, attribute of an agreement, whether in per cent."""


_ENRICHED = (
    " A sample holds more multi-attempts than all of experiment 1, so that agreement by chance is "
    "lower than there."
)

_DARK = 0.85
"""Shade from which numbers are white."""


def draw(kinds: Sequence[Group]) -> dict[str, Figure]:
    """The three figures by name."""
    with style.look():
        return {
            "rates": _rates_figure(kinds),
            "scores": _scores_figure(kinds),
            "agreement": _agreement_figure(kinds),
        }


def _notes(kinds: Sequence[Group], *first: str) -> list[str]:
    drawn = [
        f"{run.source.title}: {'all ' if run.complete else ''}{len(run.weights):,} graded trials"
        for group in kinds
        for run in group.runs
    ]
    if not drawn:
        return []
    lost: Counter[str] = Counter()
    for group in kinds:
        for run in group.runs:
            for arm, outcomes in run.outcomes.items():
                lost[run.judges[arm]] += sum(not outcome.graded for outcome in outcomes)
    notes = [*first, f"Sample: all multi-attempt trials, and others at random. {'; '.join(drawn)}."]
    told = "; ".join(f"{name} {count:,}" for name, count in lost.items() if count)
    return [*notes, f"Not graded and left out: {told}."] if told else notes


def _organisms(kinds: Sequence[Group]) -> list[str]:
    return [run.source.title for group in kinds if group.organism for run in group.runs]


def _empty(width: float = style.COLUMN_WIDTH) -> Figure:
    figure = style.new_figure(1.3, width)
    style.empty_panel(figure.subplots(), f"no complete run of {EXPERIMENT}")
    return figure


def _rates_figure(kinds: Sequence[Group]) -> Figure:
    """Rates of all trials by judge and model (Figure A.4)."""
    runs = [run for group in kinds for run in group.runs]
    if not runs:
        return _empty()
    rows = [0.42 + 0.19 * len(run.outcomes) for run in runs]
    figure = style.new_figure(sum(rows) + 0.95, style.PAGE_WIDTH)
    grid = figure.subplots(len(runs), 2, squeeze=False, height_ratios=rows, sharey="row")
    for run, axes_row in zip(runs, grid, strict=True):
        for axes, (label, key) in zip(axes_row, RATES, strict=True):
            _dots(axes, run, [getattr(found, key) for found in run.rates.values()])
            axes.set_title(f"{run.source.title}: {label}", loc="left")
    for axes in grid[-1]:
        axes.set_xlabel("% of graded trials")
    notes = _notes(
        kinds,
        "Estimated for all trials of experiment 1: every sampled trial counts for as many as it "
        "was drawn to stand for. Lines: 95 %, bootstrap over latents.",
    )
    style.footnotes(figure, notes, _organisms(kinds))
    return figure


def _dots(axes: Axes, run: Run, estimates: Sequence[Estimate]) -> None:
    colour, n = style.colour(run.source.model), len(estimates)
    top = 0.0
    for row, estimate in zip(reversed(range(n)), estimates, strict=True):
        if not np.isfinite(estimate.value):
            axes.annotate("none graded", (0, row), fontsize=style.SMALL, va="center")
            continue
        high = estimate.value
        if estimate.interval is not None:
            ends = [100 * estimate.interval.low, 100 * estimate.interval.high]
            axes.plot(ends, [row, row], color=style.INK, linewidth=0.9)
            high = estimate.interval.high
        axes.plot([100 * estimate.value], [row], "o", color=colour, markersize=4)
        top = max(top, 100 * high)
        told = f"{100 * estimate.value:.2f} %, n {estimate.n:,}"
        axes.annotate(
            *(told, (100 * high, row)),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=style.SMALL,
            va="center",
        )
    axes.set_ylim(-0.6, n - 0.4)
    axes.set_xlim(0, 1.6 * top or 1.0)
    axes.set_yticks(list(reversed(range(n))), list(run.judges.values()))
    axes.tick_params(axis="y", length=0)


def _others(group: Group) -> list[str]:
    return [arm for arm in group.judges if arm != ORIGINAL]


def _scores_figure(kinds: Sequence[Group]) -> Figure:
    """First scores and numbers of attempts, original against other judges (Figure A.5)."""
    rows = [(group, arm) for group in kinds for arm in _others(group)]
    if not rows:
        return _empty()
    beside = 1 if len(rows) == 1 else 2
    lines = -(-len(rows) // beside)
    width = style.COLUMN_WIDTH if beside == 1 else style.PAGE_WIDTH
    figure = style.new_figure(1.75 * lines + 0.7, width)
    grid = figure.subplots(lines, 2 * beside, squeeze=False).reshape(-1, 2)
    for (group, arm), (left, right) in zip(rows, grid, strict=False):
        if (ORIGINAL, arm) in group.agreements:
            _scatter(left, group, arm)
            _counts(right, group, arm)
        else:
            for axes in (left, right):
                style.empty_panel(axes, f"{group.judges[arm]}: no trial graded")
    for axes in grid[len(rows) :].flat:
        axes.set_axis_off()
    notes = _notes(
        kinds,
        "First scores: one dot per trial, blue Llama, orange Gemma, green organism. Attempts: "
        f"trials by number of attempts, {MOST} standing for {MOST} or more. The diagonal is "
        "agreement. In brackets: 95 %, bootstrap over latents.",
    )
    style.footnotes(figure, notes, _organisms(kinds))
    return figure


def _scatter(axes: Axes, group: Group, arm: str) -> None:
    for run in group.runs:
        pairs = paired(run.outcomes[ORIGINAL], run.outcomes.get(arm, []))
        x, y = ([p[k].first for p in pairs] for k in (0, 1))
        colour = style.colour(run.source.model)
        axes.plot(x, y, "o", color=colour, alpha=0.25, markersize=2.2, markeredgewidth=0)
    axes.plot([0, 100], [0, 100], color=style.FAINT, linewidth=0.6, linestyle=(0, (3, 2)))
    axes.set_xlim(-3, 103)
    axes.set_ylim(-3, 103)
    axes.set_xticks([0, 50, 100])
    axes.set_yticks([0, 50, 100])
    axes.set_xlabel(_short(group.judges[ORIGINAL]))
    axes.set_ylabel(_short(group.judges[arm]))
    found = group.agreements[ORIGINAL, arm]
    axes.set_title(
        f"first score, n {found.pairs:,}\nr {_told(found.pearson)}",
        loc="left",
        fontsize=style.SMALL,
    )


def _counts(axes: Axes, group: Group, arm: str) -> None:
    matrix = count_matrix(group, arm)
    shade = np.log1p(matrix.T) / max(1.0, float(np.log1p(matrix.max())))
    axes.imshow(shade, origin="lower", cmap="Blues", vmin=0, vmax=1.3, aspect="auto")
    for (x, y), count in np.ndenumerate(matrix):
        if count:
            ink = "white" if shade[y, x] > _DARK else style.INK
            told = f"{count:,}"
            axes.text(x, y, told, ha="center", va="center", fontsize=style.SMALL, color=ink)
    labels = [str(k) for k in range(1, MOST)] + [f"{MOST}+"]
    axes.set_xticks(range(MOST), labels)
    axes.set_yticks(range(MOST), labels)
    axes.set_xlabel(_short(group.judges[ORIGINAL]))
    axes.set_ylabel(_short(group.judges[arm]))
    found = group.agreements[ORIGINAL, arm]
    axes.set_title(f"attempts\nr {_told(found.attempts)}", loc="left", fontsize=style.SMALL)


def _short(judge: str) -> str:
    name = judge.removesuffix(" (experiment 1)")
    return name if len(name) <= 22 else f"{name[:21]}…"


def _agreement_figure(kinds: Sequence[Group]) -> Figure:
    """Correlations of first scores and the table of agreement (Figure A.6)."""
    if not kinds:
        return _empty(style.PAGE_WIDTH)
    heights = [max(1.7, 0.75 + 0.34 * len(list(combinations(group.judges, 2)))) for group in kinds]
    figure = style.new_figure(sum(heights) + 0.8, style.PAGE_WIDTH)
    grid = figure.subplots(
        len(kinds), 2, squeeze=False, width_ratios=[1, 2.9], height_ratios=heights
    )
    for group, height, (left, right) in zip(kinds, heights, grid, strict=True):
        _heat(left, group)
        _text_table(right, group, 0.29 / height)
    whole = all(run.complete for group in kinds for run in group.runs)
    notes = _notes(
        kinds,
        "Agree: share of trials with the same answer. Improved counts single attempts as not "
        "improved. Same direction: sign of last minus first score, where both judges find several "
        "attempts. Confirmed: multi-attempts of the judge named first that the second finds too. "
        "In brackets: 95 %, bootstrap over latents." + ("" if whole else _ENRICHED),
    )
    style.footnotes(figure, notes, _organisms(kinds))
    return figure


def _heat(axes: Axes, group: Group) -> None:
    arms = list(group.judges)
    matrix = np.eye(len(arms))
    for (a, b), pair in group.agreements.items():
        matrix[arms.index(a), arms.index(b)] = pair.pearson.value
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1.3)
    for (row, column), value in np.ndenumerate(matrix):
        told = f"{value:.2f}" if np.isfinite(value) else "-"
        ink = "white" if value > _DARK else style.INK
        axes.text(column, row, told, ha="center", va="center", fontsize=style.SMALL, color=ink)
    names = [_short(group.judges[arm]) for arm in arms]
    axes.set_xticks(range(len(arms)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(arms)), names)
    axes.tick_params(length=0)
    axes.set_title("first scores: Pearson's r", loc="left")


def _text_table(axes: Axes, group: Group, row_height: float) -> None:
    found = group.agreements
    axes.set_axis_off()
    axes.set_title(group.title, loc="left", fontweight="bold")
    pairs = [pair for pair in combinations(group.judges, 2) if pair in found]
    cells = [
        [_cell(getattr(found[pair], key), percent) for _, key, percent in COLUMNS] for pair in pairs
    ]
    names = [
        f"{_short(group.judges[a])}\n{_short(group.judges[b])}, n {found[a, b].pairs:,}"
        for a, b in pairs
    ]
    rows = [[name, *row] for name, row in zip(names, cells, strict=True)]
    table = axes.table(
        cellText=[["judges", *(heading for heading, _, _ in COLUMNS)], *rows],
        colWidths=[0.25, *[0.125] * len(COLUMNS)],
        cellLoc="center",
        loc="upper left",
        edges="horizontal",
    )
    table.auto_set_font_size(False)
    table.set_fontsize(5.4)
    for (_, column), cell in table.get_celld().items():
        cell.set_linewidth(0.4)
        cell.set_height(row_height)
        if column == 0:
            cell.set_text_props(ha="left")
            cell.PAD = 0.02


def _cell(estimate: Estimate, percent: bool) -> str:
    if not np.isfinite(estimate.value):
        return "-"
    scale, places = (100.0, 1) if percent else (1.0, 2)
    told = f"{scale * estimate.value:.{places}f}" + (" %" if percent else "")
    if estimate.interval is None:
        return f"{told}\n(n {estimate.n:,})"
    ends = (scale * estimate.interval.low, scale * estimate.interval.high)
    return f"{told}\n[{ends[0]:.{places}f}, {ends[1]:.{places}f}]"


def _told(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return "not defined"
    ends = estimate.interval
    return f"{estimate.value:.2f}" + (f" [{ends.low:.2f}, {ends.high:.2f}]" if ends else "")


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    found = groups(sources)
    numbers = tables(found)
    return [Drawn(f"exp7_{n}", figure, numbers[n]) for n, figure in draw(found).items()]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv)


if __name__ == "__main__":
    sys.exit(main())
