"""Figure 4 of the paper and its appendix figures: restarts under meta-prompts, per model.

python plotting/plot_exp5.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from esr.analysis import metrics
from plotting import arms, rates, style
from plotting.arms import Arm, Group
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.sources import Source

EXPERIMENT = "experiment_05_prompt_variants"
NAME = "exp5_meta_prompts"
MAIN = "self_monitor"
"""The variant of Figure 4 (paper section 3.3)."""

ORDER = ("dont_get_distracted", "ignore_latent_label", MAIN, "resist_manipulation")
NONE = "no meta-prompt"


def groups(sources: Sequence[Source]) -> list[Group]:
    """A group per model: its baseline and its meta-prompts in the paper's order."""
    by_model: dict[str, list[Source]] = {}
    for source in sources:
        by_model.setdefault(source.model, []).append(source)
    return [_group(runs) for runs in by_model.values()]


def _group(runs: Sequence[Source]) -> Group:
    """One model. What replays another baseline than its newest run is named, not drawn."""
    title, baseline = runs[0].title, _baseline(runs[0]).get("summary")
    same = [run for run in runs if _replays(run) == _replays(runs[0])]
    shown = [_arm(run) for run in sorted(same, key=_place)]
    notes = [
        f"{title}, {_name(run)}: baseline differs in {', '.join(differing)}."
        for run in same
        if (differing := _baseline(run).get("differences"))
    ]
    if baseline is None:
        notes.append(f"{title}: files without a baseline.")
    else:
        shown.insert(0, Arm(NONE, baseline, colour=style.BASELINE))
    if other := [_name(run) for run in runs if run not in same]:
        notes.append(f"{title}: not drawn, other baseline: {', '.join(other)}.")
    return Group(runs[0], title, shown, notes, missing=f"no run of {MAIN}")


def _baseline(source: Source) -> Mapping[str, Any]:
    """The run it replays; empty for a file of the authors."""
    return source.data.get("baseline") or {}


def _replays(source: Source) -> tuple[Any, ...]:
    """What runs must share to stand beside one baseline: the parent, and which trials."""
    baseline = _baseline(source)
    counts = (baseline.get("summary") or {}).get("counts") or {}
    return (baseline.get("run_id"), baseline.get("digest"), counts.get("trials"))


def _arm(source: Source) -> Arm:
    """A meta-prompt: pale without steering, which is not compared with the steered baseline."""
    summary, colour = metrics.summary(source.outcomes, source.seed), style.colour(source.model)
    comparison = source.data.get("comparison")
    if source.settings.get("no_steering"):
        red, green, blue = (0.4 * part + 0.6 for part in to_rgb(colour))
        comparison, colour = None, to_hex((red, green, blue))
    return Arm(_name(source), summary, comparison, colour, run=source.path.name)


def _name(source: Source) -> str:
    name = str(source.settings.get("prompt_variant_id") or source.path.stem)
    return f"{name}, no steering" if source.settings.get("no_steering") else name


def _place(source: Source) -> tuple[int, str]:
    plain = _name(source).removesuffix(", no steering")
    return (ORDER.index(plain) if plain in ORDER else len(ORDER), _name(source))


def table(groups: Sequence[Group]) -> pd.DataFrame:
    """The plotted numbers and the ratios to the baseline."""
    ends = {f"risk_ratio{end}": f"ratio{end}" for end in ("", "_low", "_high")}
    numbers = arms.table(groups, tuple(rates.NAMES))
    numbers = numbers.rename(columns={"arm": "condition", **ends})
    return numbers.replace({"condition": {NONE: "baseline"}})


def draw_main(groups: Sequence[Group]) -> Drawn:
    """Figure 4: the main meta-prompt against none, one row per model."""
    about = f"Restarts under the meta-prompt {MAIN} (Figure 4 of the paper)."
    shown = []
    for group in groups:
        pair = [arm for arm in group.arms if arm.name in (NONE, MAIN)]
        named = any(arm.name == MAIN for arm in pair)
        shown.append(replace(group, arms=pair if named else []))
    return arms.draw(NAME, EXPERIMENT, shown, table(groups), about)


def draw_model(group: Group) -> Drawn:
    """An appendix figure: all meta-prompts of one model."""
    key = "".join(c if c.isalnum() or c == "-" else "-" for c in group.source.model)
    return arms.draw(
        *(f"exp5_variants_{key}", EXPERIMENT, [group], table([group])),
        about=f"Restarts under each meta-prompt, {group.title}.",
        quantities=[*rates.MULTI_AND_ESR, "conditional_improvement_rate", rates.SCORE],
        columns=2,
    )


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves: Figure 4, and one figure per model."""
    by_model = groups(sources)
    return [draw_main(by_model), *map(draw_model, by_model)]


def _per(info: Mapping[str, Any]) -> Hashable:
    """The newest run of a model stands for others of the same variant, steered or not."""
    config = info["config"]
    return (info["model"], *config["variants"], config["no_steering"])


main = figure_command(EXPERIMENT, __doc__, figures, _per)

if __name__ == "__main__":
    raise SystemExit(main())
