"""Figure 6 of the paper: restarts over the share of self-correction, steered and unsteered, and
fine-tuning beside prompting.

python plotting/plot_exp4.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from esr.analysis import metrics
from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn, Panel, Row
from plotting.finetuning_sweeps import ARMS, Sweep, sweeps
from plotting.plot_exp5 import EXPERIMENT as PROMPTING
from plotting.plot_exp5 import ORDER as VARIANTS
from plotting.published import published
from plotting.rates import Summary
from plotting.sources import Source

EXPERIMENT = "experiment_04_finetuning"
NAME, COMBINED = "exp4_finetuning", "exp4_prompting_and_finetuning"

HEADROOM = 1.7
"""Height of an axis in its highest point: n and legend stand above the data."""

FAR = 4
"""A model whose rates end above so many times every other's has no say in the axis."""

UNSTEERED_COLOUR = "#CC79A7"
LAYOUT = (rates.MULTI_AND_ESR, ("conditional_improvement_rate", rates.SCORE))
"""Panels of a model, row by row."""


def _rows(sweep: Sweep) -> list[Row]:
    """Figure 6, one model: rates and scores over the mixes."""
    limit = _limit(sweep, {})
    return [
        (1.75, [_panel(sweep, quantity, limit, quantity == LAYOUT[0][0]) for quantity in row])
        for row in LAYOUT
    ]


def _limit(sweep: Sweep, prompted: Mapping[str, Summary]) -> float:
    """Of both rates, which share a scale, under prompting too; without models far above all."""
    paper = [v / 100 for q in rates.MULTI_AND_ESR for _, v in paper_points(sweep.base, q)]
    tops = _tops(sweep, prompted)
    while len(tops) > 2 and tops[-1] > FAR * max([tops[-2], *paper]) > 0:
        tops.pop()
    return max([*tops, *paper]) or 1.0


def _tops(sweep: Sweep, prompted: Mapping[str, Summary]) -> list[float]:
    """Where each model and each meta-prompt ends, in order."""
    models = [
        *([summary] for summary in prompted.values()),
        *(p.arms.values() for p in sweep.points),
    ]
    return sorted(map(_top, models))


def _top(summaries: Iterable[Summary]) -> float:
    shown = [summary[quantity] for summary in summaries for quantity in rates.MULTI_AND_ESR]
    return max(map(rates.top, shown))


def _panel(sweep: Sweep, quantity: str, limit: float, named: bool, kind: str = "") -> Panel:
    title = f"{kind}{rates.NAMES[quantity]}"
    unit = rates.unit_of(quantity)
    return Panel(
        partial(
            _trend,
            sweep=sweep,
            quantity=quantity,
            limit=limit if quantity in rates.MULTI_AND_ESR else unit.high,
            legend=named,
        ),
        f"{sweep.title}\n{title}" if named else title,
        sweep.base,
        "% self-correction in training (0: base)",
        "mean, 0 to 100" if quantity == rates.SCORE else "%",
    )


def _trend(axes: Axes, sweep: Sweep, quantity: str, limit: float, legend: bool) -> None:
    """One quantity over the mixes: both arms, the redraw null, and the paper's points."""
    unit = rates.unit_of(quantity)
    for row, (arm, label) in enumerate(ARMS.items()):
        colour = style.colour(sweep.base) if arm == "steered" else UNSTEERED_COLOUR
        shown = [rates.rate_of(point.arms[arm], quantity) for point in sweep.points]
        places = [point.percent + 1.8 * row - 0.9 + 0.8 * point.turn for point in sweep.points]
        by_percent: dict[int, list[Any]] = {}
        for point, rate in zip(sweep.points, shown, strict=True):
            by_percent.setdefault(point.percent, []).append(rate)
        means = [_mean(trainings) for trainings in by_percent.values()]
        line = unit.scale * np.array([mean["rate"] for mean in means], dtype=float)
        line[line > unit.scale * limit] = np.nan
        at = [percent + 1.8 * row - 0.9 for percent in by_percent]
        axes.plot(at, line, "-", color=colour, linewidth=0.7, alpha=0.7)
        rates.points(axes, places, shown, colour, unit, limit=limit)
        rates.sizes(axes, list(by_percent), means, row, colour)
        axes.plot([], [], "o-", color=colour, markersize=3, label=label)
    if quantity == "conditional_improvement_rate":
        steered = [point.arms["steered"] for point in sweep.points]
        rates.nulls(axes, [point.percent for point in sweep.points], steered, 2.2)
    if paper := paper_points(sweep.base, quantity):
        look: Any = {"color": style.FAINT, "markersize": 4, "label": "paper, steered"}
        axes.plot(*zip(*paper, strict=True), "x", **look)
    rates.y_axis(axes, limit, unit, HEADROOM)
    axes.set_xlim(-5, 95)
    axes.set_xticks(range(0, 91, 10))
    if legend:
        axes.legend(loc="upper left", bbox_to_anchor=(0, 0.87), handlelength=1.2, borderaxespad=0)


def _mean(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of one mix: the mean over its trainings, where defined, and their trials together."""
    defined = [t["rate"] for t in trainings if t["rate"] is not None]
    mean = sum(defined) / len(defined) if defined else None
    return {"rate": mean, "n": sum(t["n"] for t in trainings)}


def paper_points(base: str, quantity: str) -> list[tuple[float, float]]:
    """The paper's points of this very model: (% self-correction, %)."""
    return [
        (float(number.arm.split()[0]), number.value)
        for number in published()
        if (number.experiment, number.model, number.quantity) == (4, base, quantity)
        and number.value is not None
    ]


def _beside(sweep: Sweep, prompted: Mapping[str, Summary]) -> list[Row]:
    """Prompting beside fine-tuning: multi-attempt rate and ESR rate of one model, on one scale."""
    limit = _limit(sweep, prompted)
    rows: list[Row] = []
    for quantity in rates.MULTI_AND_ESR:
        draw = partial(_prompted, base=sweep.base, shown=prompted, quantity=quantity, limit=limit)
        left = Panel(draw, f"prompting: {rates.NAMES[quantity]}", sweep.base, y="%")
        named = quantity == rates.MULTI_AND_ESR[0]
        rows.append((1.8, [left, _panel(sweep, quantity, limit, named, "fine-tuning: ")]))
    return rows


def _prompted(
    axes: Axes, base: str, shown: Mapping[str, Summary], quantity: str, limit: float
) -> None:
    entries = [summary[quantity] for summary in shown.values()]
    rates.points(axes, range(len(shown)), entries, style.colour(base), limit=limit)
    rates.sizes(axes, range(len(shown)), entries)
    axes.set_xticks(range(len(shown)), [name.replace("_", "\n") for name in shown])
    axes.set_xlim(-0.5, len(shown) - 0.5)
    rates.y_axis(axes, limit, headroom=HEADROOM)


def variants(prompting: Sequence[Source], model: str) -> dict[str, Summary]:
    """Summaries of experiment 5 on a model: no meta-prompt, then each meta-prompt."""
    summaries: dict[str, Summary] = {}
    for source in prompting:
        if source.model != model or source.settings.get("no_steering"):
            continue
        if baseline := (source.data.get("baseline") or {}).get("summary"):
            summaries.setdefault("none", baseline)
        name = str(source.settings.get("prompt_variant_id"))
        summaries.setdefault(name, metrics.summary(source.outcomes, source.seed))
    order = [name for name in ("none", *VARIANTS) if name in summaries]
    return {name: summaries[name] for name in dict.fromkeys([*order, *summaries])}


def _differences(source: Source) -> str:
    """In what a run of experiment 5 differs from its own baseline."""
    differing = (source.data.get("baseline") or {}).get("differences")
    variant = source.settings.get("prompt_variant_id")
    return f"{variant}: baseline differs in {', '.join(differing)}." if differing else ""


def _notes(
    sweeps: Sequence[Sweep], prompted: Mapping[str, Mapping[str, Summary]] | None = None
) -> Iterator[str]:
    """What must be said; ``prompted`` by base model, where prompting stands beside."""
    yield (
        f"{rates.INTERVALS} {rates.PALE} Figures along the upper edge: n. Fine-tuned models "
        "differ from the base model in their weights alone; thresholds are calibrated for each."
    )
    yield rates.NULL
    beside = [(sweep, (prompted or {}).get(sweep.base, {})) for sweep in sweeps]
    if any(_tops(*both)[-1] > _limit(*both) for both in beside):
        yield "Triangles: above the axis, with the value and no line to it; intervals in the CSV."
    for sweep in sweeps:
        if any(point.turn for point in sweep.points):
            yield (
                "Several trainings of a mix, from the same data: a point each, the line through "
                "their mean, n together."
            )
        for point in sweep.points:
            for arm, summary in point.arms.items():
                name = f"{point.percent} %, training seed {point.training_seed}, {arm}"
                yield rates.lost(name, summary["counts"])
        used = {str(p.source.settings.get("hyperparameters")) for p in sweep.points if p.percent}
        if len(used) > 1:
            yield f"{sweep.title}: mixes trained with different hyperparameters."
        if sweep.left_out:
            yield f"Not drawn, other run of the base: {', '.join(sweep.left_out)}."


def table(sweeps: Sequence[Sweep]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    rows: list[dict[str, Any]] = []
    for sweep in sweeps:
        run: dict[str, Any] = {"model": sweep.base, "condition": "fine-tuning"}
        for point in sweep.points:
            run |= {"source": point.source.path.name, "percent": point.percent}
            run |= {"training_seed": point.training_seed}
            for arm, summary in point.arms.items():
                rows += [{**run, "arm": arm, **row} for row in rates.rows(summary)]
        run |= {"source": "paper", "arm": "steered", "training_seed": None}
        for quantity in rates.QUANTITIES:
            for percent, value in paper_points(sweep.base, quantity):
                rows.append({**run, "percent": percent, "quantity": quantity, "value": value / 100})
    names = ["model", "source", "condition", "arm", "percent", "training_seed", "quantity"]
    names += rates.COLUMNS
    return pd.DataFrame(rows, columns=names)


def combined_table(sweeps: Sequence[Sweep], prompting: Sequence[Source]) -> pd.DataFrame:
    """The numbers of the combined figure."""
    rows = [
        {"model": sweep.base, "condition": f"prompting: {name}", "arm": "steered", **row}
        for sweep in sweeps
        for name, summary in variants(prompting, sweep.base).items()
        for row in rates.rows(summary)
    ]
    tuned = table(sweeps)
    both = pd.concat([pd.DataFrame(rows, columns=tuned.columns), tuned]) if rows else tuned
    return both[both["quantity"].isin(rates.MULTI_AND_ESR)]


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """Figure 6, and the combined one of the models of which both experiments were run."""
    tuned = sweeps([source for source in sources if "base_model" in source.settings])
    prompting = [source for source in sources if "prompt_variant_id" in source.settings]
    both = {s.base: (s, v) for s in tuned if (v := variants(prompting, s.base))}
    rows = [row for sweep in tuned for row in _rows(sweep)]
    drawn = [_figure(NAME, tuned, rows, table(tuned), _notes(tuned))]
    if both:
        rows = [row for sweep, prompted in both.values() for row in _beside(sweep, prompted)]
        shown = [sweep for sweep, _ in both.values()]
        differing = [_differences(source) for source in prompting if source.model in both]
        numbers = combined_table(shown, prompting)
        notes = [
            *_notes(shown, {base: prompted for base, (_, prompted) in both.items()}),
            *differing,
        ]
        drawn.append(_figure(COMBINED, shown, rows, numbers, notes))
    return drawn


def _figure(
    name: str,
    shown: Sequence[Sweep],
    rows: Sequence[Row],
    numbers: pd.DataFrame,
    notes: Iterable[str],
) -> Drawn:
    return figure.compose(
        *(name, EXPERIMENT, rows, numbers),
        about=ABOUT[name],
        sources=[point.source for sweep in shown for point in sweep.points],
        notes=notes,
        width=style.PAGE_WIDTH,
    )


ABOUT = {
    NAME: "Restarts over the share of self-correction in training (Figure 6 of the paper).",
    COMBINED: "Prompting beside fine-tuning (Figure 6 of the paper).",
}


def _run(info: Mapping[str, Any]) -> Hashable:
    return (info["model"], str(info["config"]))


main = figure_command(EXPERIMENT, __doc__, figures, beside=(PROMPTING, _run))

if __name__ == "__main__":
    raise SystemExit(main())
