"""Figure 6 of the paper: restarts over the share of self-correction, steered and unsteered, and
fine-tuning beside prompting.

python plotting/plot_exp4.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from esr.analysis import metrics
from plotting import rates, style
from plotting.command import Drawn, figure_command
from plotting.finetuning_sweeps import ARMS, Summary, Sweep, sweeps
from plotting.plot_exp5 import EXPERIMENT as PROMPTING
from plotting.plot_exp5 import ORDER as VARIANTS
from plotting.published import published
from plotting.sources import Source

EXPERIMENT = "experiment_04_finetuning"
NAME, COMBINED = "exp4_finetuning", "exp4_prompting_and_finetuning"

HEADROOM = 1.4
"""Height of an axis in its highest point: the legend stands above the data."""

UNSTEERED_COLOUR = "#CC79A7"
PAPER_COLOUR = "#9a9a9a"


def draw(found: Sequence[Sweep]) -> Figure:
    """Figure 6, one row per base model: three rates over the mixes."""
    with style.look():
        organisms = [sweep.title for sweep in found if sweep.source.organism]
        notes = _notes(found)
        height = 1.75 * max(1, len(found)) + 0.3 + 0.085 * style.note_lines(notes, style.PAGE_WIDTH)
        figure = style.new_figure(height + (0.25 if organisms else 0.0), style.PAGE_WIDTH)
        grid = figure.subplots(max(1, len(found)), 3, squeeze=False)
        if not found:
            for axes in grid[0]:
                style.empty_panel(axes, f"no complete run of {EXPERIMENT}")
        for sweep, row in zip(found, grid, strict=False):
            for axes, quantity in zip(row, rates.QUANTITIES, strict=True):
                _panel(axes, sweep, quantity)
                _title(axes, sweep, rates.QUANTITIES[quantity])
            _name(row[0], sweep)
            _legend(row[0], sweep)
        style.footnotes(figure, notes, organisms)
    return figure


def _panel(axes: Axes, sweep: Sweep, quantity: str) -> None:
    """One rate over the mixes: both arms, the redraw null, and the paper's points."""
    for arm, shift in zip(ARMS, (-0.9, 0.9), strict=True):
        colour = _colour(sweep, arm)
        places = [point.percent + shift for point in sweep.points]
        found = [point.arms[arm][quantity] for point in sweep.points]
        axes.plot(places, _percents(found), "-", color=colour, linewidth=0.7, alpha=0.7)
        for place, rate in zip(places, found, strict=True):
            if rate["rate"] is not None:
                rates.point(axes, place, rate, colour)
    if quantity == "conditional_improvement_rate":
        _null(axes, sweep)
    paper = paper_points(sweep.base, quantity)
    if paper:
        axes.plot(*zip(*paper, strict=True), "x", color=PAPER_COLOUR, markersize=4)
    tops = [rates.top(p.arms[arm][quantity]) for p in sweep.points for arm in ARMS]
    highest = max([100 * top for top in tops] + [value for _, value in paper])
    axes.set_ylim(-0.03 * highest, HEADROOM * highest or 1.0)
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= 100])
    axes.set_ylim(-0.03 * highest, HEADROOM * highest or 1.0)
    axes.set_xlim(-5, 95)
    axes.set_xticks(range(0, 91, 10))
    axes.set_xlabel("% self-correction in training (0: base)")
    axes.set_ylabel("%")


def _title(axes: Axes, sweep: Sweep, text: str) -> None:
    axes.set_title(text, loc="left", fontweight="bold", color=style.colour(sweep.base))


def _name(axes: Axes, sweep: Sweep) -> None:
    """The model's name at the left of its row."""
    axes.set_ylabel(f"{sweep.title}\n%", color=style.colour(sweep.base))


def _null(axes: Axes, sweep: Sweep) -> None:
    nulls = [point.arms["steered"]["redraw_null"] for point in sweep.points]
    if any(null["rate"] is not None for null in nulls):
        places = [point.percent for point in sweep.points]
        axes.plot(places, _percents(nulls), "D--", color=style.INK, linewidth=0.8, markersize=2.4)
        axes.legend(axes.lines[-1:], ["redraw null, steered"], loc="upper left", handlelength=1.6)


def _percents(found: Sequence[Mapping[str, Any]]) -> list[float]:
    """Rates for a line that breaks where there is none."""
    return [float("nan") if each["rate"] is None else 100 * each["rate"] for each in found]


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


def draw_combined(found: Sequence[Sweep], prompting: Sequence[Source]) -> Figure:
    """Prompting beside fine-tuning: multi-attempt rate and ESR rate of one model."""
    with style.look():
        organisms = [sweep.title for sweep in found if sweep.source.organism]
        used = [source for source in prompting if source.model in {s.base for s in found}]
        notes = [*_notes(found), *(_confounds(source) for source in used)]
        notes = [note for note in notes if note]
        rows = 2 * max(1, len(found))
        height = 1.55 * rows + 0.3 + 0.085 * style.note_lines(notes, style.PAGE_WIDTH)
        figure = style.new_figure(height + (0.25 if organisms else 0.0), style.PAGE_WIDTH)
        grid = figure.subplots(rows, 2, squeeze=False)
        if not found:
            for axes in grid.flat:
                style.empty_panel(axes, f"no complete run of {EXPERIMENT}")
        for number, sweep in enumerate(found):
            for axes, quantity in zip(
                grid[2 * number : 2 * number + 2], ("multi_attempt_rate", "esr_rate"), strict=True
            ):
                _pair(axes, sweep, variants(prompting, sweep.base), quantity)
        style.footnotes(figure, notes, organisms)
    return figure


def variants(prompting: Sequence[Source], model: str) -> dict[str, Summary]:
    """Summaries of experiment 5 on a model: no meta-prompt, then each meta-prompt."""
    found: dict[str, Summary] = {}
    for source in prompting:
        if source.model != model or source.settings.get("no_steering"):
            continue
        baseline = (source.data.get("baseline") or {}).get("summary")
        if baseline is not None:
            found.setdefault("none", baseline)
        name = str(source.settings.get("prompt_variant_id"))
        found.setdefault(name, metrics.summary(source.outcomes, source.seed))
    order = ["none", *VARIANTS]
    return {k: found[k] for k in sorted(found, key=lambda k: order.index(k) if k in order else 99)}


def _pair(grid: Sequence[Axes], sweep: Sweep, prompted: Mapping[str, Summary], name: str) -> None:
    left, right = grid
    _panel(right, sweep, name)
    _legend(right, sweep)
    for place, summary in enumerate(prompted.values()):
        rates.point(left, place, summary[name], style.colour(sweep.base))
    if prompted:
        left.set_xticks(range(len(prompted)), [k.replace("_", "\n") for k in prompted])
        left.set_xlim(-0.5, len(prompted) - 0.5)
        tops = [100 * HEADROOM * rates.top(summary[name]) for summary in prompted.values()]
        highest = max([right.get_ylim()[1], *tops])
        for axes in grid:
            axes.set_ylim(-0.03 * highest, highest)
    else:
        style.empty_panel(left, f"no complete run of {PROMPTING} for {sweep.base}")
    for axes, what in ((left, "prompting"), (right, "fine-tuning")):
        _title(axes, sweep, f"{what}: {rates.QUANTITIES[name]}")
    _name(left, sweep)


def _confounds(source: Source) -> str:
    """In what a run of experiment 5 differs from its own baseline."""
    differing = (source.data.get("baseline") or {}).get("differences")
    variant = source.settings.get("prompt_variant_id")
    return f"{variant}: baseline differs in {', '.join(differing)}." if differing else ""


def _notes(found: Sequence[Sweep]) -> list[str]:
    if not found:
        return []
    notes = [
        f"{rates.INTERVALS} Fine-tuned models differ "
        "from the base model in their weights alone; thresholds are calibrated for each."
    ]
    for sweep in found:
        for point in sweep.points:
            for arm, summary in point.arms.items():
                notes.append(rates.lost(f"{point.percent} %, {arm}", summary["counts"]))
        used = {str(p.source.settings.get("hyperparameters")) for p in sweep.points if p.percent}
        if len(used) > 1:
            notes.append(f"{sweep.title}: mixes trained with different hyperparameters.")
        if sweep.left_out:
            notes.append(f"Not drawn, other run of the base: {', '.join(sweep.left_out)}.")
        counts = [p.arms["steered"]["counts"]["graded"] for p in sweep.points]
        most = f" to {max(counts):,}" if max(counts) > min(counts) else ""
        graded = f"{min(counts):,}{most} graded trials per steered point"
        notes.append(f"{sweep.title}: {graded}; restarts from left to right: {_restarts(sweep)}.")
    sources = [point.source for sweep in found for point in sweep.points]
    return [note for note in [*notes, *rates.judges(sources)] if note]


def _restarts(sweep: Sweep) -> str:
    """How many responses the rates of improvement rest on."""
    told = []
    for arm in ARMS:
        counts = [str(p.arms[arm]["multi_attempt_rate"]["count"]) for p in sweep.points]
        told.append(f"{ARMS[arm].partition(' at ')[0]} {', '.join(counts)}")
    return "; ".join(told)


def table(found: Sequence[Sweep]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    made: list[dict[str, Any]] = []
    for sweep in found:
        for point in sweep.points:
            for arm, summary in point.arms.items():
                run: dict[str, Any] = {
                    "model": sweep.base,
                    "source": point.source.path.name,
                    "condition": "fine-tuning",
                    "arm": arm,
                    "percent": point.percent,
                }
                made += [{**run, "quantity": q, **rates.row(summary[q])} for q in rates.QUANTITIES]
                null = summary["redraw_null"]
                made.append({**run, "quantity": "redraw_null", "value": null["rate"]})
        for quantity in rates.QUANTITIES:
            for percent, value in paper_points(sweep.base, quantity):
                row: dict[str, Any] = {"model": sweep.base, "source": "paper", "arm": "steered"}
                row |= {"percent": percent, "condition": "fine-tuning", "quantity": quantity}
                made.append({**row, "value": value / 100})
    names = ["model", "source", "condition", "arm", "percent", "quantity", *rates.COLUMNS]
    return pd.DataFrame(made, columns=names)


def combined_table(found: Sequence[Sweep], prompting: Sequence[Source]) -> pd.DataFrame:
    """The numbers of the combined figure."""
    made: list[dict[str, Any]] = []
    for sweep in found:
        for name, summary in variants(prompting, sweep.base).items():
            run = {"model": sweep.base, "condition": f"prompting: {name}", "arm": "steered"}
            made += [
                {**run, "quantity": q, **rates.row(summary[q])}
                for q in ("multi_attempt_rate", "esr_rate")
            ]
    tuned = table(found)
    shown = tuned[tuned["quantity"].isin(["multi_attempt_rate", "esr_rate"])]
    return pd.concat([pd.DataFrame(made, columns=tuned.columns), shown]) if made else shown


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """Figure 6, and the combined one."""
    found = sweeps([source for source in sources if "base_model" in source.settings])
    prompting = [source for source in sources if "prompt_variant_id" in source.settings]
    return [
        Drawn(NAME, draw(found), table(found)),
        Drawn(COMBINED, draw_combined(found, prompting), combined_table(found, prompting)),
    ]


def _run(facts: Mapping[str, Any]) -> Hashable:
    return (facts["model"], str(facts["config"]))


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    about = __doc__.split("\n\n")[0].replace("\n", " ")
    return figure_command(EXPERIMENT, about, figures, argv, beside=(PROMPTING, _run))


if __name__ == "__main__":
    sys.exit(main())
