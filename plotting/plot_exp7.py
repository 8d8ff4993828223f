"""Figures A.4 to A.6 of the paper: the same responses before several judges.

python plotting/plot_exp7.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from esr.analysis.agreement import Estimate
from esr.analysis.outcomes import paired
from plotting import cross_judge, figure, style
from plotting.command import figure_command
from plotting.cross_judge import EXPERIMENT, MOST, ORIGINAL, RATES, Group, Run
from plotting.figure import Drawn
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

_RATES = (
    "Estimated for all trials of experiment 1: every sampled trial counts for as many as it was "
    "drawn to stand for. Lines: 95 %, bootstrap over latents."
)
_SCORES = (
    "First scores: one dot per trial, blue Llama, orange Gemma, green organism. Attempts: trials "
    f"by number of attempts, {MOST} standing for {MOST} or more. The diagonal is agreement. In "
    "brackets: 95 %, bootstrap over latents."
)
_AGREEMENT = (
    "Agree: share of trials with the same answer. Improved counts single attempts as not "
    "improved. Same direction: sign of last minus first score, where both judges find several "
    "attempts. Confirmed: multi-attempts of the judge named first that the second finds too. "
    "In brackets: 95 %, bootstrap over latents."
)
_ENRICHED = (
    " A sample holds more multi-attempts than all of experiment 1, so that agreement by chance is "
    "lower than there."
)

_DARK = 0.85
"""Shade from which numbers are white."""


def _grid(
    groups: Sequence[Group], heights: Sequence[float], columns: int, note: str, **layout: Any
) -> tuple[Figure, NDArray[Any]]:
    runs = [run for group in groups for run in group.runs]
    sources = [run.source for run in runs]
    samples = [
        f"{run.source.title}: {'all ' if run.complete else ''}{len(run.weights):,} graded trials"
        for run in runs
    ]
    lost: Counter[str] = Counter()
    for run in runs:
        for arm, outcomes in run.outcomes.items():
            lost[run.judges[arm]] += sum(not outcome.graded for outcome in outcomes)
    reasons = "; ".join(f"{name} {count:,}" for name, count in lost.items() if count)
    notes = [
        note,
        f"Sample: all multi-attempt trials, and others at random. {'; '.join(samples)}.",
        reasons and f"Not graded and left out: {reasons}.",
    ]
    return figure.grid(EXPERIMENT, heights, columns, sources=sources, notes=notes, **layout)


@style.look()
def _rates_figure(groups: Sequence[Group]) -> Figure:
    """Rates of all trials by judge and model (Figure A.4)."""
    runs = [run for group in groups for run in group.runs]
    heights = [0.5 + 0.19 * len(run.outcomes) for run in runs]
    picture, grid = _grid(groups, heights, 2, _RATES, width=style.PAGE_WIDTH, sharey="row")
    for run, row in zip(runs, grid, strict=True):
        for axes, (key, label) in zip(row, RATES.items(), strict=True):
            _dots(axes, run, [getattr(rates, key) for rates in run.rates.values()])
            axes.set_title(f"{run.source.title}: {label}", loc="left")
            axes.set_xlabel("% of graded trials")
    return picture


def _dots(axes: Axes, run: Run, estimates: Sequence[Estimate]) -> None:
    colour, n = style.colour(run.source.model), len(estimates)
    top = 0.0
    for row, estimate in zip(reversed(range(n)), estimates, strict=True):
        value, ends = 100 * estimate.value, estimate.interval
        if not np.isfinite(value):
            axes.annotate("none graded", (0, row), fontsize=style.SMALL, va="center")
            continue
        right = 100 * ends.high if ends else value
        if ends:
            axes.plot([100 * ends.low, right], [row, row], color=style.INK, linewidth=0.9)
        axes.plot([value], [row], "o", color=colour, markersize=4)
        axes.annotate(
            *(f"{value:.2f} %, n {estimate.n:,}", (right, row)),
            xytext=(4, 0),
            textcoords="offset points",
            fontsize=style.SMALL,
            va="center",
        )
        top = max(top, right)
    axes.set_ylim(-0.6, n - 0.4)
    axes.set_xlim(0, 1.6 * top or 1.0)
    axes.set_yticks(list(reversed(range(n))), list(run.judges.values()))
    axes.tick_params(axis="y", length=0)


@style.look()
def _scores_figure(groups: Sequence[Group]) -> Figure:
    """First scores and numbers of attempts, original against other judges (Figure A.5)."""
    pairs = [(group, arm) for group in groups for arm in group.judges if arm != ORIGINAL]
    beside = min(2, len(pairs)) or 1
    width = style.COLUMN_WIDTH if beside == 1 else style.PAGE_WIDTH
    heights = [1.75] * -(-len(pairs) // beside)
    picture, grid = _grid(groups, heights, 2 * beside, _SCORES, width=width)
    cells = grid.reshape(-1, 2)
    for (group, arm), (left, right) in zip(pairs, cells, strict=False):
        if (ORIGINAL, arm) in group.agreements:
            _scatter(left, group, arm)
            _counts(right, group, arm)
        else:
            for axes in (left, right):
                style.empty_panel(axes, f"{group.judges[arm]}: no trial graded")
    for axes in cells[len(pairs) :].flat:
        axes.set_axis_off()
    return picture


def _scatter(axes: Axes, group: Group, arm: str) -> None:
    for run in group.runs:
        pairs = paired(run.outcomes[ORIGINAL], run.outcomes.get(arm, []))
        x, y = ([pair[k].first for pair in pairs] for k in (0, 1))
        colour = style.colour(run.source.model)
        axes.plot(x, y, "o", color=colour, alpha=0.25, markersize=2.2, markeredgewidth=0)
    axes.plot([0, 100], [0, 100], color=style.FAINT, linewidth=0.6, linestyle=style.DASHED)
    limits, ticks = (-3, 103), [0, 50, 100]
    axes.set(xlim=limits, ylim=limits, xticks=ticks, yticks=ticks)
    agreement = group.agreements[ORIGINAL, arm]
    text = f"first score, n {agreement.pairs:,}\nr {_correlation(agreement.pearson)}"
    _label(axes, group, arm, text)


def _counts(axes: Axes, group: Group, arm: str) -> None:
    matrix = cross_judge.count_matrix(group, arm).T
    shade = np.log1p(matrix) / max(1.0, float(np.log1p(matrix.max())))
    cells = np.array([[f"{count:,}" if count else "" for count in row] for row in matrix])
    _shaded(axes, shade, cells, origin="lower", aspect="auto")
    labels = [*map(str, range(1, MOST)), f"{MOST}+"]
    axes.set_xticks(range(MOST), labels)
    axes.set_yticks(range(MOST), labels)
    text = f"attempts\nr {_correlation(group.agreements[ORIGINAL, arm].attempts)}"
    _label(axes, group, arm, text)


def _label(axes: Axes, group: Group, arm: str, title: str) -> None:
    axes.set_xlabel(_short(group.judges[ORIGINAL]))
    axes.set_ylabel(_short(group.judges[arm]))
    axes.set_title(title, loc="left", fontsize=style.SMALL)


def _shaded(axes: Axes, shade: NDArray[Any], cells: NDArray[Any], **how: Any) -> None:
    """A matrix with its numbers in it."""
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.3, **how)
    for (row, column), text in np.ndenumerate(cells):
        ink = "white" if shade[row, column] > _DARK else style.INK
        axes.text(column, row, text, ha="center", va="center", fontsize=style.SMALL, color=ink)


def _short(judge: str) -> str:
    name = judge.removesuffix(" (experiment 1)")
    return name if len(name) <= 22 else f"{name[:21]}…"


@style.look()
def _agreement_figure(groups: Sequence[Group]) -> Figure:
    """Correlations of first scores and the table of agreement (Figure A.6)."""
    whole = all(run.complete for group in groups for run in group.runs)
    counts = [len(group.judges) * (len(group.judges) - 1) // 2 for group in groups]
    heights = [max(1.7, 0.75 + 0.34 * count) for count in counts]
    picture, grid = _grid(
        *(groups, heights, 2, _AGREEMENT + ("" if whole else _ENRICHED)),
        width=style.PAGE_WIDTH,
        width_ratios=[1, 2.9],
    )
    for group, height, (left, right) in zip(groups, heights, grid, strict=True):
        _heat(left, group)
        _text_table(right, group, 0.29 / height)
    return picture


def _heat(axes: Axes, group: Group) -> None:
    arms = list(group.judges)
    matrix = np.eye(len(arms))
    for (a, b), agreement in group.agreements.items():
        matrix[arms.index(a), arms.index(b)] = agreement.pearson.value
    cells = [[f"{value:.2f}" if np.isfinite(value) else "-" for value in row] for row in matrix]
    _shaded(axes, matrix, np.array(cells))
    names = [_short(group.judges[arm]) for arm in arms]
    axes.set_xticks(range(len(arms)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(arms)), names)
    axes.tick_params(length=0)
    axes.set_title("first scores: Pearson's r", loc="left")


def _text_table(axes: Axes, group: Group, row_height: float) -> None:
    axes.set_axis_off()
    axes.set_title(group.title, loc="left", fontweight="bold")
    rows = [["judges", *(heading for heading, _, _ in COLUMNS)]]
    for a, b in combinations(group.judges, 2):
        if agreement := group.agreements.get((a, b)):
            names = f"{_short(group.judges[a])}\n{_short(group.judges[b])}, n {agreement.pairs:,}"
            cells = [_cell(getattr(agreement, key), percent) for _, key, percent in COLUMNS]
            rows.append([names, *cells])
    table = axes.table(
        cellText=rows,
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
    value = f"{scale * estimate.value:.{places}f}" + (" %" if percent else "")
    if estimate.interval is None:
        return f"{value}\n(n {estimate.n:,})"
    low, high = scale * estimate.interval.low, scale * estimate.interval.high
    return f"{value}\n[{low:.{places}f}, {high:.{places}f}]"


def _correlation(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return "not defined"
    ends = estimate.interval
    return f"{estimate.value:.2f}" + (f" [{ends.low:.2f}, {ends.high:.2f}]" if ends else "")


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    groups = cross_judge.groups(sources)
    return [
        Drawn("exp7_rates", _rates_figure(groups), cross_judge.rates_table(groups)),
        Drawn("exp7_scores", _scores_figure(groups), cross_judge.scores_table(groups)),
        Drawn("exp7_agreement", _agreement_figure(groups), cross_judge.agreement_table(groups)),
    ]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
