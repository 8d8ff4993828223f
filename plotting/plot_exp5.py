"""Figure 4 of the paper and its appendix figures: restarts under meta-prompts, per model.

python plotting/plot_exp5.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from esr.analysis import metrics
from plotting import rates, style
from plotting.command import Drawn, figure_command
from plotting.sources import Source

EXPERIMENT = "experiment_05_prompt_variants"
NAME = "exp5_meta_prompts"
MAIN = "self_monitor"
"""The variant of Figure 4 (paper section 3.3)."""

ORDER = ("dont_get_distracted", "ignore_latent_label", MAIN, "resist_manipulation")


@dataclass(frozen=True)
class Condition:
    """One meta-prompt on one model.

    Attributes:
        name: of the variant; runs without steering say so.
        source: its run.
        summary: see :func:`esr.analysis.metrics.summary`.
    """

    name: str
    source: Source
    summary: dict[str, Any]

    @property
    def unsteered(self) -> bool:
        """Whether nothing was boosted."""
        return bool(self.source.settings.get("no_steering"))

    @property
    def colour(self) -> str:
        """The model's; pale without steering."""
        full = style.colour(self.source.model)
        return _pale(full) if self.unsteered else full

    @property
    def comparison(self) -> Mapping[str, Any] | None:
        """With the baseline; None for a file of the authors, which holds none."""
        found: Mapping[str, Any] | None = self.source.data.get("comparison")
        return found

    def ratio(self, quantity: str) -> Mapping[str, Any]:
        """Ratio to the baseline, with its interval; none for a run without steering."""
        compared = {} if self.unsteered else (self.comparison or {}).get(quantity) or {}
        ends = compared.get("risk_ratio_interval") or (None, None)
        return {"ratio": compared.get("risk_ratio"), "ratio_low": ends[0], "ratio_high": ends[1]}

    def label(self, quantity: str) -> str:
        """Name and, where it is defined, the ratio to the baseline."""
        ratio = self.ratio(quantity)
        if ratio["ratio"] is None:
            return self.name
        ends = ""
        if ratio["ratio_low"] is not None:
            high = "∞" if ratio["ratio_high"] is None else f"{ratio['ratio_high']:.2f}"
            ends = f" [{ratio['ratio_low']:.2f}, {high}]"
        return f"{self.name}, ratio {ratio['ratio']:.2f}{ends}"


@dataclass(frozen=True)
class Group:
    """One model with its baseline.

    Attributes:
        conditions: those with the same baseline as the newest run of the model, in the paper's
            order.
        left_out: names of those with another baseline.
    """

    conditions: list[Condition]
    left_out: list[str]

    @property
    def source(self) -> Source:
        """The run that stands for the model."""
        return self.conditions[0].source

    @property
    def baseline(self) -> dict[str, Any] | None:
        """Summary of the parent run; None for files of the authors."""
        found: dict[str, Any] | None = (self.source.data.get("baseline") or {}).get("summary")
        return found

    def only(self, name: str) -> Group:
        """The one condition named; the whole group where it is missing."""
        named = [condition for condition in self.conditions if condition.name == name]
        return replace(self, conditions=named) if named else self

    def bars(self, quantity: str, only: str = "") -> list[style.Bar]:
        """The baseline in grey and the conditions, or the one condition named."""
        made = []
        if self.baseline is not None:
            label = f"no meta-prompt{_null(quantity, self.baseline)}"
            made.append(rates.bar(label, self.baseline[quantity], "#9a9a9a"))
        for condition in self.conditions:
            if only in ("", condition.name):
                label = condition.label(quantity) + _null(quantity, condition.summary)
                made.append(rates.bar(label, condition.summary[quantity], condition.colour))
        return made


def _pale(colour: str) -> str:
    red, green, blue = (0.4 * part + 0.6 for part in to_rgb(colour))
    return to_hex((red, green, blue))


def _null(quantity: str, summary: Mapping[str, Any]) -> str:
    """The redraw null, beside every improvement rate."""
    if quantity != "conditional_improvement_rate" or summary["redraw_null"]["rate"] is None:
        return ""
    return f", null {100 * summary['redraw_null']['rate']:.1f} %"


def groups(sources: Sequence[Source]) -> list[Group]:
    """Conditions by model; a baseline is never mixed with another."""
    by_model: dict[str, list[Condition]] = {}
    for source in sources:
        summary = metrics.summary(source.outcomes, source.seed)
        condition = Condition(_name(source), source, summary)
        by_model.setdefault(source.model, []).append(condition)
    made = []
    for found in by_model.values():
        same = [c for c in found if _baseline(c) == _baseline(found[0])]
        left = [c.name for c in found if c not in same]
        made.append(Group(sorted(same, key=lambda c: _order(c.name)), left))
    return made


def _name(source: Source) -> str:
    name = str(source.settings.get("prompt_variant_id") or source.path.stem)
    return f"{name}, no steering" if source.settings.get("no_steering") else name


def _order(name: str) -> tuple[int, str]:
    plain = name.removesuffix(", no steering")
    return (ORDER.index(plain) if plain in ORDER else len(ORDER), name)


def _baseline(condition: Condition) -> tuple[Any, ...]:
    """What conditions must share to stand beside one baseline: the parent, and which trials."""
    known = condition.source.data.get("baseline") or {}
    counts = (known.get("summary") or {}).get("counts") or {}
    return (known.get("run_id"), known.get("digest"), counts.get("trials"))


def draw(found: Sequence[Group]) -> Figure:
    """Figure 4: the main meta-prompt against none, one row per model."""
    with style.look():
        organisms = [group.source.title for group in found if group.source.organism]
        notes = _notes([group.only(MAIN) for group in found])
        height = 0.95 * max(1, len(found)) + 0.2 + 0.085 * style.note_lines(notes, style.PAGE_WIDTH)
        figure = style.new_figure(height + (0.25 if organisms else 0.0), style.PAGE_WIDTH)
        grid = figure.subplots(max(1, len(found)), 2, squeeze=False)
        if not found:
            for axes in grid[0]:
                style.empty_panel(axes, f"no complete run of {EXPERIMENT}")
        for group, row in zip(found, grid, strict=False):
            kin = [g for g in found if g.source.organism == group.source.organism]
            for axes, quantity in zip(row, ("multi_attempt_rate", "esr_rate"), strict=True):
                _main_panel(axes, group, quantity, _limit(kin, quantity, MAIN))
        style.footnotes(figure, notes, organisms)
    return figure


def _main_panel(axes: Axes, group: Group, quantity: str, limit: float) -> None:
    title = f"{group.source.title}: {rates.QUANTITIES[quantity]}"
    if not any(condition.name == MAIN for condition in group.conditions):
        style.empty_panel(axes, f"no run of {MAIN}")
    else:
        style.horizontal_bars(axes, group.bars(quantity, MAIN), limit)
        axes.set_xlabel("% of graded trials")
    axes.set_title(title, loc="left", fontweight="bold", color=style.colour(group.source.model))


def _limit(found: Sequence[Group], quantity: str, only: str = "") -> float:
    """Right end of the axis, common to comparable panels."""
    tops = [bar.top for group in found for bar in group.bars(quantity, only)]
    return min(1.0, 1.1 * max(tops, default=0.0)) or 1.0


def draw_model(group: Group) -> Figure:
    """An appendix figure: all meta-prompts of one model, three panels above each other."""
    with style.look():
        organisms = [group.source.title] if group.source.organism else []
        null = "Null: how often another first attempt under the same latent beats the first."
        notes = [null, *_notes([group])]
        rows = len(group.bars("esr_rate"))
        height = 3 * (0.27 * rows + 0.3) + 0.3 + 0.095 * style.note_lines(notes, style.COLUMN_WIDTH)
        figure = style.new_figure(height + (0.3 if organisms else 0.0))
        for axes, (quantity, label) in zip(
            figure.subplots(3, 1), rates.QUANTITIES.items(), strict=True
        ):
            bars = group.bars(quantity)
            style.horizontal_bars(axes, bars, _limit([group], quantity))
            axes.set_title(
                f"{group.source.title}: {label} (%)",
                loc="left",
                fontweight="bold",
                color=style.colour(group.source.model),
            )
        style.footnotes(figure, notes, organisms)
    return figure


def _notes(found: Sequence[Group]) -> list[str]:
    if not found:
        return []
    notes = [
        "Ratio: to the same trials without meta-prompt, 95 % bootstrap over latents. "
        f"{rates.INTERVALS}"
    ]
    for group in found:
        title = group.source.title
        if group.baseline is None:
            notes.append(f"{title}: files without a baseline.")
        else:
            notes.append(rates.lost(f"{title}, no meta-prompt", group.baseline["counts"]))
        for condition in group.conditions:
            counts = condition.summary["counts"]
            notes.append(rates.lost(f"{title}, {condition.name}", counts))
            differing = (condition.source.data.get("baseline") or {}).get("differences")
            if differing:
                notes.append(
                    f"{title}, {condition.name}: baseline differs in {', '.join(differing)}."
                )
        if group.left_out:
            notes.append(f"{title}: not drawn, other baseline: {', '.join(group.left_out)}.")
    sources = [condition.source for group in found for condition in group.conditions]
    return [note for note in [*notes, *rates.judges(sources)] if note]


def table(found: Sequence[Group]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    made: list[dict[str, Any]] = []
    for group in found:
        run = {"model": group.source.model, "title": group.source.title}
        if group.baseline is not None:
            made += [{**run, "condition": "baseline", **row} for row in _rows(group.baseline)]
        for condition in group.conditions:
            where = {"source": condition.source.path.name, "condition": condition.name}
            for row in _rows(condition.summary):
                made.append({**run, **where, **row, **condition.ratio(row["quantity"])})
    names = ["model", "title", "source", "condition", "quantity", *rates.COLUMNS]
    return pd.DataFrame(made, columns=[*names, "ratio", "ratio_low", "ratio_high"])


def _rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    null = summary["redraw_null"]
    rows = [{"quantity": name, **rates.row(summary[name])} for name in rates.QUANTITIES]
    return [*rows, {"quantity": "redraw_null", "value": null["rate"], "n": null["n"]}]


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves: Figure 4, and one figure per model."""
    found = groups(sources)
    made = [Drawn(NAME, draw(found), table(found))]
    for group in found:
        key = "".join(c if c.isalnum() or c == "-" else "-" for c in group.source.model)
        made.append(Drawn(f"exp5_variants_{key}", draw_model(group), table([group])))
    return made


def _run(facts: Mapping[str, Any]) -> Hashable:
    """The newest run of a model stands for others of the same variant, steered or not."""
    config = facts["config"]
    return (facts["model"], *config["variants"], config["no_steering"])


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv, _run)


if __name__ == "__main__":
    sys.exit(main())
