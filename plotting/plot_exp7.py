"""Figures A.4 to A.6 of the paper: the same responses before several judges.

python plotting/plot_exp7.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes

from esr.analysis.outcomes import paired
from esr.analysis.stratified import Estimate
from plotting import cross_judge, figure, rates, style
from plotting.command import figure_command
from plotting.cross_judge import EXPERIMENT, MOST, ORIGINAL, RATES, Group, Run
from plotting.figure import Drawn, Panel, Row
from plotting.rates import Bar, Rate, Unit
from plotting.sources import Source

MEASURES = {
    "pearson": "first score:\nPearson's r",
    "multi": "multi:\nagree",
    "multi_kappa": "multi:\nkappa",
    "improved": "improved:\nagree",
    "improved_kappa": "improved:\nkappa",
    "direction": "direction:\nsame",
    "confirmed": "multi:\nconfirmed",
}
"""Panels of the agreement: attribute of an agreement, and its title."""

_RATES = (
    "Over all graded trials of experiment 1: known for its own judge, for the others from the "
    "sample, strata weighted by their size. Lines: 95 %, two-way over latents and "
    "prompts; by latent in the CSV."
)
_SCORES = (
    "First scores: one dot per trial, blue Llama, orange Gemma, green organism. Attempts: trials "
    f"by number of attempts, {MOST} standing for {MOST} or more. The diagonal is agreement. In "
    "brackets: 95 %, two-way over latents and prompts."
)
_AGREEMENT = (
    "Agree: share of trials with the same answer. Improved counts single attempts as not "
    "improved. Same direction: sign of last minus first score, where both judges find several "
    "attempts. Confirmed: multi-attempts of the judge named first that the second finds too. "
    "In brackets: 95 %, two-way over latents and prompts."
)
_ENRICHED = (
    " A sample holds more multi-attempts than all of experiment 1, so that agreement by chance is "
    "lower than there; ~: over all trials, each weighted by those it stands for."
)

_DARK = 0.85
"""Shade from which numbers are white."""


def _notes(groups: Sequence[Group], note: str) -> Iterator[str]:
    yield note
    runs = [run for group in groups for run in group.runs]
    samples = [
        f"{run.source.title}: {'all ' if run.complete else ''}{len(run.weights):,} graded trials"
        for run in runs
    ]
    yield f"Sample: all multi-attempt trials, and others at random. {'; '.join(samples)}."
    lost: Counter[str] = Counter()
    for run in runs:
        for arm, outcomes in run.outcomes.items():
            lost[run.judges[arm]] += sum(not outcome.graded for outcome in outcomes)
    if reasons := "; ".join(f"{name} {count:,}" for name, count in lost.items() if count):
        yield f"Not graded and left out: {reasons}."


def _rate(estimate: Estimate) -> Rate:
    value = estimate.value if np.isfinite(estimate.value) else None
    ends = {
        "two_way_interval": estimate.two_way,
        "cluster_interval": estimate.interval,
    }
    drawn = {name: (some.low, some.high) if some else None for name, some in ends.items()}
    return {"rate": value, "n": estimate.n, **drawn}


def _rate_rows(groups: Sequence[Group]) -> Iterator[Row]:
    """Rates of all trials by judge and model (Figure A.4)."""
    for group in groups:
        limit = rates.limit(
            rate for run in group.runs for some in _by_quantity(run).values() for rate in some
        )
        for run in group.runs:
            colour = style.colour(run.source.model)
            panels: list[Panel] = []
            for label, of_judges in _by_quantity(run).items():
                named = not panels
                bars = [
                    Bar(name, rate, colour)
                    for name, rate in zip(run.judges.values(), of_judges, strict=True)
                ]
                draw = partial(rates.bars, shown=bars, limit=limit, names=named)
                title = f"{run.source.title}\n{label}" if named else label
                panels.append(Panel(draw, title, run.source.model, "% of graded trials"))
            yield 0.55 + 0.29 * len(run.judges), panels


def _by_quantity(run: Run) -> dict[str, list[Rate]]:
    return {
        label: [_rate(getattr(of_judge, key)) for of_judge in run.rates.values()]
        for key, label in RATES.items()
    }


def _score_rows(groups: Sequence[Group]) -> list[Row]:
    """First scores and numbers of attempts, original against other judges (Figure A.5)."""
    panels = [
        panel
        for group in groups
        for arm in group.judges
        if arm != ORIGINAL
        for panel in _pair(group, arm)
    ]
    return [(1.75, panels[k : k + 4]) for k in range(0, len(panels), 4)]


def _pair(group: Group, arm: str) -> tuple[Panel, Panel]:
    x, y = _short(group.judges[ORIGINAL]), _short(group.judges[arm])
    agreement = group.agreements.get((ORIGINAL, arm))
    if agreement is None:
        missing = Panel(None, empty=f"{group.judges[arm]}: no trial graded")
        return missing, missing
    scores = f"first score, n {agreement.pairs:,}\nr {_correlation(agreement.pearson)}"
    attempts = f"attempts\nr {_correlation(agreement.attempts)}"
    return (
        Panel(partial(_scatter, group=group, arm=arm), scores, x=x, y=y),
        Panel(partial(_counts, group=group, arm=arm), attempts, x=x, y=y),
    )


def _scatter(axes: Axes, group: Group, arm: str) -> None:
    for run in group.runs:
        pairs = paired(run.outcomes[ORIGINAL], run.outcomes.get(arm, []))
        x, y = ([pair[k].first for pair in pairs] for k in (0, 1))
        colour = style.colour(run.source.model)
        axes.plot(x, y, "o", color=colour, alpha=0.25, markersize=2.2, markeredgewidth=0)
    axes.plot([0, 100], [0, 100], color=style.FAINT, linewidth=0.6, linestyle=style.DASHED)
    limits, ticks = (-3, 103), [0, 50, 100]
    axes.set(xlim=limits, ylim=limits, xticks=ticks, yticks=ticks)


def _counts(axes: Axes, group: Group, arm: str) -> None:
    matrix = cross_judge.count_matrix(group, arm).T
    shade = np.log1p(matrix) / max(1.0, float(np.log1p(matrix.max())))
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1.3, origin="lower", aspect="auto")
    for (row, column), count in np.ndenumerate(matrix):
        ink = "white" if shade[row, column] > _DARK else style.INK
        text = f"{count:,}" if count else ""
        axes.text(column, row, text, ha="center", va="center", fontsize=style.SMALL, color=ink)
    labels = [*map(str, range(1, MOST)), f"{MOST}+"]
    axes.set_xticks(range(MOST), labels)
    axes.set_yticks(range(MOST), labels)


def _short(judge: str) -> str:
    name = judge.removesuffix(" (experiment 1)")
    return name if len(name) <= 22 else f"{name[:21]}…"


def _agreement_rows(groups: Sequence[Group]) -> Iterator[Row]:
    """Every measure of agreement, a bar per pair of judges (Figure A.6)."""
    for group in groups:
        pairs, names = [], []
        for pair in combinations(group.judges, 2):
            name = " / ".join(_short(group.judges[arm]) for arm in pair)
            for mark, agreements in (("", group.agreements), ("~ ", group.weighted)):
                if pair in agreements:
                    pairs.append(agreements[pair])
                    names.append(f"{mark}{name}")
        shown = {key: [_rate(getattr(pair, key)) for pair in pairs] for key in MEASURES}
        every = [rate for some in shown.values() for rate in some]
        lowest = min([0.0, *(rates.ends_of(rate)[0] for rate in every)])
        unit = Unit(1.0, np.floor(4 * lowest) / 4, 1.0, digits=2)
        # Models of two families have no colour in common.
        models = {style.colour(run.source.model): run.source.model for run in group.runs}
        model = next(iter(models.values())) if len(models) == 1 else ""
        named = group.title if len(group.runs) == 1 else f"{len(group.runs)} models"
        panels: list[Panel] = []
        for key, title in MEASURES.items():
            bars = [
                Bar(name, rate, style.colour(model))
                for name, rate in zip(names, shown[key], strict=True)
            ]
            draw = partial(rates.bars, shown=bars, limit=1.0, unit=unit, names=not panels, ticks=2)
            heading = f"{named}\n{title}" if not panels else title
            panels.append(Panel(draw, heading, model, empty="" if pairs else "no pair of judges"))
        yield 0.65 + 0.31 * max(1, len(pairs)), panels


def _correlation(estimate: Estimate) -> str:
    if not np.isfinite(estimate.value):
        return "not defined"
    ends = estimate.two_way or estimate.interval
    return f"{estimate.value:.2f}" + (f" [{ends.low:.2f}, {ends.high:.2f}]" if ends else "")


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    groups = cross_judge.groups(sources)
    scores = _score_rows(groups)
    whole = all(run.complete for group in groups for run in group.runs)
    agreement = _AGREEMENT + ("" if whole else _ENRICHED)
    narrow = all(len(panels) == 2 for _, panels in scores)
    return [
        figure.compose(
            *(name, EXPERIMENT, list(rows), table),
            about=about,
            sources=[run.source for group in groups for run in group.runs],
            notes=_notes(groups, note),
            width=style.COLUMN_WIDTH if rows is scores and narrow else style.PAGE_WIDTH,
        )
        for name, rows, table, about, note in (
            (
                *("exp7_rates", _rate_rows(groups), cross_judge.rates_table(groups)),
                *("Rates by judge (Figure A.4 of the paper).", _RATES),
            ),
            (
                *("exp7_scores", scores, cross_judge.scores_table(groups)),
                *("Scores of two judges (Figure A.5 of the paper).", _SCORES),
            ),
            (
                *("exp7_agreement", _agreement_rows(groups), cross_judge.agreement_table(groups)),
                *("Agreement of judges (Figure A.6 of the paper).", agreement),
            ),
        )
    ]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
