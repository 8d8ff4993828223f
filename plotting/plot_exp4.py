"""Figure 6 of the paper: restarts over the share of self-correction, steered and unsteered, and
fine-tuning beside prompting.

python plotting/plot_exp4.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis import metrics
from plotting import figure, rates, style
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.finetuning_sweeps import ARMS, Sweep, sweeps
from plotting.plot_exp5 import EXPERIMENT as PROMPTING
from plotting.plot_exp5 import ORDER as VARIANTS
from plotting.published import published
from plotting.rates import Rate, Summary
from plotting.sources import Source

EXPERIMENT = "experiment_04_finetuning"
NAME, COMBINED = "exp4_finetuning", "exp4_prompting_and_finetuning"

HEADROOM = 1.4
"""Height of an axis in its highest point: the legend stands above the data."""

UNSTEERED_COLOUR = "#CC79A7"
PAPER_COLOUR = "#9a9a9a"


@style.look()
def draw(sweeps: Sequence[Sweep]) -> Figure:
    """Figure 6, one row per base model: three rates over the mixes."""
    picture, grid = _grid(sweeps, [1.85] * len(sweeps), 3, _notes(sweeps))
    for sweep, row in zip(sweeps, grid, strict=True):
        for axes, quantity in zip(row, rates.QUANTITIES, strict=True):
            _panel(axes, sweep, quantity)
            figure.heading(axes, rates.QUANTITIES[quantity], sweep.base)
        _name(row[0], sweep)
        _legend(row[0], sweep)
    return picture


def _grid(
    sweeps: Sequence[Sweep], heights: Sequence[float], columns: int, notes: Sequence[str]
) -> tuple[Figure, Any]:
    points = [point.source for sweep in sweeps for point in sweep.points]
    notes = [*notes, *figure.judges(points)]
    sources = [sweep.source for sweep in sweeps]
    width = style.PAGE_WIDTH
    return figure.grid(EXPERIMENT, heights, columns, sources=sources, notes=notes, width=width)


def _panel(axes: Axes, sweep: Sweep, quantity: str) -> None:
    """One rate over the mixes: both arms, the redraw null, and the paper's points."""
    for arm, shift in zip(ARMS, (-0.9, 0.9), strict=True):
        colour = _colour(sweep, arm)
        places = [point.percent + shift for point in sweep.points]
        shown = [point.arms[arm][quantity] for point in sweep.points]
        axes.plot(places, _percents(shown), "-", color=colour, linewidth=0.7, alpha=0.7)
        for place, rate in zip(places, shown, strict=True):
            rates.point(axes, place, rate, colour)
    if quantity == "conditional_improvement_rate":
        _null(axes, sweep)
    paper = paper_points(sweep.base, quantity)
    if paper:
        axes.plot(*zip(*paper, strict=True), "x", color=PAPER_COLOUR, markersize=4)
    tops = [100 * rates.top(p.arms[arm][quantity]) for p in sweep.points for arm in ARMS]
    highest = max([*tops, *(value for _, value in paper)])
    axes.set_ylim(-0.03 * highest, HEADROOM * highest or 1.0)
    limits = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_ylim(limits)
    axes.set_xlim(-5, 95)
    axes.set_xticks(range(0, 91, 10))
    axes.set_xlabel("% self-correction in training (0: base)")
    axes.set_ylabel("%")


def _name(axes: Axes, sweep: Sweep) -> None:
    """The model's name at the left of its row."""
    axes.set_ylabel(f"{sweep.title}\n%", color=style.colour(sweep.base))


def _null(axes: Axes, sweep: Sweep) -> None:
    nulls = [point.arms["steered"]["redraw_null"] for point in sweep.points]
    if any(null["rate"] is not None for null in nulls):
        places = [point.percent for point in sweep.points]
        axes.plot(places, _percents(nulls), "D--", color=style.INK, linewidth=0.8, markersize=2.4)
        axes.legend(axes.lines[-1:], ["redraw null, steered"], loc="upper left", handlelength=1.6)


def _percents(rates: Sequence[Rate]) -> Any:
    """Rates for a line that breaks where there is none: [n_points]."""
    return 100 * np.array([rate["rate"] for rate in rates], dtype=float)


def _colour(sweep: Sweep, arm: str) -> str:
    return style.colour(sweep.base) if arm == "steered" else UNSTEERED_COLOUR


def _legend(axes: Axes, sweep: Sweep) -> None:
    for arm, label in ARMS.items():
        axes.plot([], [], "o-", color=_colour(sweep, arm), markersize=3, label=label)
    if paper_points(sweep.base, "esr_rate"):
        axes.plot([], [], "x", color=PAPER_COLOUR, markersize=4, label="paper, steered")
    axes.legend(loc="upper left", handlelength=1.2, borderaxespad=0.2)


def paper_points(base: str, quantity: str) -> list[tuple[float, float]]:
    """The paper's points of this very model: (% self-correction, %)."""
    return [
        (float(number.arm.split()[0]), number.value)
        for number in published()
        if (number.experiment, number.model, number.quantity) == (4, base, quantity)
        and number.value is not None
    ]


@style.look()
def draw_combined(sweeps: Sequence[Sweep], prompting: Sequence[Source]) -> Figure:
    """Prompting beside fine-tuning: multi-attempt rate and ESR rate of one model."""
    bases = {sweep.base for sweep in sweeps}
    notes = [*_notes(sweeps), *(_differences(s) for s in prompting if s.model in bases)]
    cells = [(sweep, quantity) for sweep in sweeps for quantity in rates.MULTI_AND_ESR]
    picture, grid = _grid(sweeps, [1.7] * len(cells), 2, notes)
    by_base = {base: variants(prompting, base) for base in bases}
    for (sweep, quantity), (left, right) in zip(cells, grid, strict=True):
        _panel(right, sweep, quantity)
        _legend(right, sweep)
        _prompted(left, right, sweep, by_base[sweep.base], quantity)
        for axes, what in ((left, "prompting"), (right, "fine-tuning")):
            figure.heading(axes, f"{what}: {rates.QUANTITIES[quantity]}", sweep.base)
        _name(left, sweep)
    return picture


def _prompted(
    left: Axes, right: Axes, sweep: Sweep, prompted: Mapping[str, Summary], quantity: str
) -> None:
    """A rate under each meta-prompt, on the scale of the panel at its right."""
    if not prompted:
        style.empty_panel(left, f"no complete run of {PROMPTING} for {sweep.base}")
        return
    for place, summary in enumerate(prompted.values()):
        rates.point(left, place, summary[quantity], style.colour(sweep.base))
    left.set_xticks(range(len(prompted)), [name.replace("_", "\n") for name in prompted])
    left.set_xlim(-0.5, len(prompted) - 0.5)
    tops = [100 * HEADROOM * rates.top(summary[quantity]) for summary in prompted.values()]
    highest = max([right.get_ylim()[1], *tops])
    for axes in (left, right):
        axes.set_ylim(-0.03 * highest, highest)


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


def _notes(sweeps: Sequence[Sweep]) -> list[str]:
    notes = [
        f"{rates.INTERVALS} Fine-tuned models differ "
        "from the base model in their weights alone; thresholds are calibrated for each."
    ]
    for sweep in sweeps:
        for point in sweep.points:
            for arm, summary in point.arms.items():
                notes.append(rates.lost(f"{point.percent} %, {arm}", summary["counts"]))
        used = {str(p.source.settings.get("hyperparameters")) for p in sweep.points if p.percent}
        if len(used) > 1:
            notes.append(f"{sweep.title}: mixes trained with different hyperparameters.")
        if sweep.left_out:
            notes.append(f"Not drawn, other run of the base: {', '.join(sweep.left_out)}.")
        notes.append(_sizes(sweep))
    return notes


def _sizes(sweep: Sweep) -> str:
    """How many trials the rates rest on, and how many restarts the rates of improvement."""
    graded = [point.arms["steered"]["counts"]["graded"] for point in sweep.points]
    most = f" to {max(graded):,}" if max(graded) > min(graded) else ""
    restarts = []
    for arm, label in ARMS.items():
        counts = [str(point.arms[arm]["multi_attempt_rate"]["count"]) for point in sweep.points]
        restarts.append(f"{label.partition(' at ')[0]} {', '.join(counts)}")
    return (
        f"{sweep.title}: {min(graded):,}{most} graded trials per steered point; restarts from "
        f"left to right: {'; '.join(restarts)}."
    )


def table(sweeps: Sequence[Sweep]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    rows: list[dict[str, Any]] = []
    for sweep in sweeps:
        run: dict[str, Any] = {"model": sweep.base, "condition": "fine-tuning"}
        for point in sweep.points:
            run |= {"source": point.source.path.name, "percent": point.percent}
            for arm, summary in point.arms.items():
                rows += [{**run, "arm": arm, **row} for row in rates.rows(summary)]
                rows[-1]["n"] = None
        run |= {"source": "paper", "arm": "steered"}
        for quantity in rates.QUANTITIES:
            for percent, value in paper_points(sweep.base, quantity):
                rows.append({**run, "percent": percent, "quantity": quantity, "value": value / 100})
    names = ["model", "source", "condition", "arm", "percent", "quantity", *rates.COLUMNS]
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
    """Figure 6, and the combined one."""
    tuned = sweeps([source for source in sources if "base_model" in source.settings])
    prompting = [source for source in sources if "prompt_variant_id" in source.settings]
    return [
        Drawn(NAME, draw(tuned), table(tuned)),
        Drawn(COMBINED, draw_combined(tuned, prompting), combined_table(tuned, prompting)),
    ]


def _run(info: Mapping[str, Any]) -> Hashable:
    return (info["model"], str(info["config"]))


main = figure_command(EXPERIMENT, __doc__, figures, beside=(PROMPTING, _run))

if __name__ == "__main__":
    raise SystemExit(main())
