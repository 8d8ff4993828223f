"""Figure 4 of the paper and its appendix figures: restarts under meta-prompts, per model.

python plotting/plot_exp5.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from esr.analysis import metrics
from plotting import arms, rates, style
from plotting.arms import Arm
from plotting.command import figure_command
from plotting.figure import Drawn
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
    summary: rates.Summary

    @property
    def baseline(self) -> Mapping[str, Any]:
        """The run it replays; empty for a file of the authors."""
        return self.source.data.get("baseline") or {}

    @property
    def unsteered(self) -> bool:
        """Whether nothing was boosted."""
        return bool(self.source.settings.get("no_steering"))

    def ratio(self, quantity: str) -> dict[str, Any]:
        """Ratio to the baseline, with its interval; none for a run without steering."""
        comparison = {} if self.unsteered else self.source.data.get("comparison") or {}
        compared = comparison.get(quantity) or {}
        low, high = compared.get("risk_ratio_interval") or (None, None)
        return {"ratio": compared.get("risk_ratio"), "ratio_low": low, "ratio_high": high}

    @property
    def arm(self) -> Arm:
        """As a bar: pale without steering, which is not compared with the steered baseline."""
        full = style.colour(self.source.model)
        red, green, blue = (0.4 * part + 0.6 for part in to_rgb(full))
        colour = to_hex((red, green, blue)) if self.unsteered else full
        comparison = None if self.unsteered else self.source.data.get("comparison")
        return Arm(self.name, self.summary, comparison, colour)


@dataclass(frozen=True)
class Model:
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
    def baseline(self) -> rates.Summary | None:
        """Summary of the parent run; None for files of the authors."""
        return self.conditions[0].baseline.get("summary")

    def group(self, only: str = "") -> arms.Group:
        """The baseline in grey and the conditions, or the one condition named."""
        title = self.source.title
        shown = [c for c in self.conditions if only in ("", c.name)]
        bars, notes = [condition.arm for condition in shown], []
        if self.baseline is None:
            notes.append(f"{title}: files without a baseline.")
        elif shown:
            bars.insert(0, Arm("no meta-prompt", self.baseline, colour=style.BASELINE))
        for condition in shown:
            if differing := condition.baseline.get("differences"):
                notes.append(
                    f"{title}, {condition.name}: baseline differs in {', '.join(differing)}."
                )
        if self.left_out:
            notes.append(f"{title}: not drawn, other baseline: {', '.join(self.left_out)}.")
        return arms.Group(self.source, title, bars, notes, missing=f"no run of {only}")


def models(sources: Sequence[Source]) -> list[Model]:
    """Conditions by model; a baseline is never mixed with another."""
    by_model: dict[str, list[Condition]] = {}
    for source in sources:
        summary = metrics.summary(source.outcomes, source.seed)
        condition = Condition(_name(source), source, summary)
        by_model.setdefault(source.model, []).append(condition)
    return [_model(conditions) for conditions in by_model.values()]


def _model(conditions: Sequence[Condition]) -> Model:
    same = [c for c in conditions if _key(c) == _key(conditions[0])]
    other = [c.name for c in conditions if c not in same]
    return Model(sorted(same, key=lambda c: _order(c.name)), other)


def _name(source: Source) -> str:
    name = str(source.settings.get("prompt_variant_id") or source.path.stem)
    return f"{name}, no steering" if source.settings.get("no_steering") else name


def _order(name: str) -> tuple[int, str]:
    plain = name.removesuffix(", no steering")
    return (ORDER.index(plain) if plain in ORDER else len(ORDER), name)


def _key(condition: Condition) -> tuple[Any, ...]:
    """What conditions must share to stand beside one baseline: the parent, and which trials."""
    baseline = condition.baseline
    counts = (baseline.get("summary") or {}).get("counts") or {}
    return (baseline.get("run_id"), baseline.get("digest"), counts.get("trials"))


def table(models: Sequence[Model]) -> pd.DataFrame:
    """Exactly the plotted numbers, one row each; shares are 0 to 1."""
    rows: list[dict[str, Any]] = []
    for model in models:
        run = {"model": model.source.model, "title": model.source.title}
        if model.baseline is not None:
            rows += [{**run, "condition": "baseline", **row} for row in rates.rows(model.baseline)]
        for condition in model.conditions:
            run |= {"source": condition.source.path.name, "condition": condition.name}
            for row in rates.rows(condition.summary):
                rows.append({**run, **row, **condition.ratio(row["quantity"])})
    names = ["model", "title", "source", "condition", "quantity", *rates.COLUMNS]
    return pd.DataFrame(rows, columns=[*names, "ratio", "ratio_low", "ratio_high"])


def draw_main(models: Sequence[Model]) -> Drawn:
    """Figure 4: the main meta-prompt against none, one row per model."""
    about = f"Restarts under the meta-prompt {MAIN} (Figure 4 of the paper)."
    groups = [model.group(MAIN) for model in models]
    return arms.draw(NAME, EXPERIMENT, groups, table(models), about)


def draw_model(model: Model) -> Drawn:
    """An appendix figure: all meta-prompts of one model."""
    key = "".join(c if c.isalnum() or c == "-" else "-" for c in model.source.model)
    return arms.draw(
        *(f"exp5_variants_{key}", EXPERIMENT, [model.group()], table([model])),
        about=f"Restarts under each meta-prompt, {model.source.title}.",
        quantities=[*arms.SHOWN[:2], "conditional_improvement_rate", rates.SCORE],
        columns=2,
    )


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves: Figure 4, and one figure per model."""
    by_model = models(sources)
    return [draw_main(by_model), *map(draw_model, by_model)]


def _per(info: Mapping[str, Any]) -> Hashable:
    """The newest run of a model stands for others of the same variant, steered or not."""
    config = info["config"]
    return (info["model"], *config["variants"], config["no_steering"])


main = figure_command(EXPERIMENT, __doc__, figures, _per)

if __name__ == "__main__":
    raise SystemExit(main())
