"""Experiment 12 (ours): restarts under every steering operator, at equal effect.

python plotting/plot_exp12.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from plotting import arms, style
from plotting.arms import Arm, Group
from plotting.command import by_model, figure_command
from plotting.figure import Drawn
from plotting.sources import Source

EXPERIMENT = "experiment_12_steering_operators"
DEFENCE = "experiment_12_defence"
OPERATORS, LAYERS, GUARDS = "exp12_operators", "exp12_layers", "exp12_defence"

QUANTITIES = (
    "multi_attempt_rate",
    "conditional_improvement_rate",
    "esr_rate",
    "mean_first_score",
)
EQUAL = {
    "score": "at equal first score",
    "kl": "at equal KL of the first 32 tokens",
    "none": "under a steering file",
}


def _groups(source: Source) -> list[Group]:
    """One per calibration: the parent's boosts, then every operator."""
    data, groups = source.data, []
    for calibration, title in EQUAL.items():
        shown = [Arm("boost (parent)", data["baseline"], colour=style.BASELINE)]
        notes = []
        for name, arm in data["arms"].items():
            if arm["parent"] or arm["calibration"] != calibration:
                continue
            label = name.removeprefix(f"{calibration}-")
            if not arm["summary"]["counts"]["trials"]:
                notes.append(f"{source.title}, {title}: {label} reaches it for no latent.")
                continue
            shown.append(Arm(label, arm["summary"], arm["comparison"]))
            notes.append(f"{source.title}, {title}: {label}: {_geometry(arm)}.")
        if len(shown) > 1 or notes:
            groups.append(Group(source, f"{source.title}, {title}", shown, notes))
    return groups


def _geometry(arm: Mapping[str, Any]) -> str:
    shape, nats = arm["geometry"] or {}, arm["divergence"]
    parts = [f"{len(arm['values'])} latents"]
    if arm["failed"]:
        parts.append(f"{len(arm['failed'])} left out")
    if nats is not None:
        parts.append(f"{nats:.2f} nats per token")
    if shape:
        parts.append(
            f"gate open on {100 * shape['open_share']:.0f} % of tokens, change "
            f"{100 * shape['change']:.0f} % of the row's length, which grows by "
            f"{100 * shape['growth']:.0f} %"
        )
    return ", ".join(parts)


def _guards(source: Source) -> Group:
    """Unsteered, boosted, and boosted with every guard."""
    data = source.data
    shown = [
        Arm("no steering", data["unsteered"], colour=style.BASELINE),
        Arm("boost", data["baseline"], colour=style.BASELINE),
    ]
    notes = [f"Guards act at layers {', '.join(map(str, data['defence_layers']))}."]
    for name, arm in data["arms"].items():
        shown.append(Arm(f"boost, {name}", arm["defended"]))
        restored, cost = arm["restored"], arm["cost"]
        if restored is not None and cost is not None:
            notes.append(
                f"{source.title}: {name} restores {100 * restored:.0f} % of the first score the "
                f"boost takes, at {cost:.1f} points of clean answers."
            )
    return Group(source, f"{source.title}, guarded against the boost", shown, notes)


def _operators(name: str, sources: Sequence[Source], about: str) -> Drawn:
    groups = [group for source in sources for group in _groups(source)]
    return arms.draw(
        *(name, EXPERIMENT, groups, arms.table(groups, QUANTITIES), about),
        quantities=QUANTITIES,
        columns=len(QUANTITIES),
    )


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves; others than the first where a sweep or the defence was run."""
    compared = [s for s in sources if "arms" in s.data and "defence_layers" not in s.data]
    guarded = [s for s in sources if "defence_layers" in s.data]
    swept = [source for source in compared if source.settings.get("layer_sweep")]
    about = "Restarts under steering operators that push towards the same concepts"
    drawn = [_operators(OPERATORS, [s for s in compared if s not in swept], f"{about} (ours).")]
    if swept:
        drawn.append(_operators(LAYERS, swept, f"{about}, at one layer each (ours)."))
    if guarded:
        shown = [_guards(source) for source in guarded]
        about = "Steering back to the question while a boost pushes away from it (ours)."
        drawn.append(arms.draw(GUARDS, DEFENCE, shown, arms.table(shown), about))
    return drawn


def by_kind(info: Mapping[str, Any]) -> Hashable:
    """A comparison and a layer sweep per model."""
    return str(info["model"]), bool(info["config"].get("layer_sweep"))


main = figure_command(EXPERIMENT, __doc__, figures, by_kind, beside=(DEFENCE, by_model))

if __name__ == "__main__":
    raise SystemExit(main())
