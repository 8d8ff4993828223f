"""Figure 5 of the paper: restarts with the off-topic detectors clamped.

python plotting/plot_exp3.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from plotting import arms, known_answer, style
from plotting.arms import Arm, Group
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.sources import Source

EXPERIMENT = "experiment_03_off_topic_detectors"
NAME = "exp3_ablation"


def _group(source: Source) -> Group:
    """Baseline and arms of a run."""
    data, prompts = source.data, source.settings.get("prompts")
    shown = [Arm("baseline", data["baseline"], colour=style.BASELINE)]
    for name, arm in data["arms"].items():
        same = arm["identical_responses"]
        note = f"{same['count']:,} of {same['n']:,} responses unchanged"
        label = _name(name, arm, data["detectors"]["method"])
        shown.append(Arm(label, arm["summary"], arm["comparison"], note=note))
    title = f"{source.title}, prompts {source.settings['prompt_set']}" if prompts else source.title
    own = max(arm["boosted_latent_clamped"] for arm in data["arms"].values())
    notes = [
        f"{title}: {len(data['ablated_latents'])} detectors chosen by {data['detectors']['method']}"
        + (f"; {own:,} trials boost one of them." if own else ".")
    ]
    if data.get("differences") and not prompts:
        notes.append(f"{title}: the baseline differs in {', '.join(data['differences'])}.")
    return Group(source, title, shown, notes)


def _name(name: str, arm: Mapping[str, Any], method: str) -> str:
    if name == "dose-1":
        return "replayed, nothing clamped"
    kind = name.removeprefix("ablation").removeprefix("-")
    effect = f" of {kind} effect" if name.startswith("ablation-") else ""
    dose = "clamped to 0" if arm["dose"] == 0 else f"at {arm['dose']:g} x"
    return f"{arms.detectors(arm['latents'], method)}{effect} {dose}"


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    models = list(dict.fromkeys(source.model for source in sources))
    # The headline of a model is what was measured on held-out prompts.
    ordered = sorted(
        (source for source in sources if "arms" in source.data),
        key=lambda s: (models.index(s.model), s.settings.get("prompts") != "held-out"),
    )
    groups = [_group(source) for source in ordered]
    about = "Restarts with the off-topic detectors clamped (Figure 5 of the paper)."
    drawn = [arms.draw(NAME, EXPERIMENT, groups, arms.table(groups), about)]
    # Beside the ablation of a known circuit: what the whole procedure found there and elsewhere.
    if any(source.model == known_answer.MEMBER for source in ordered) and known_answer.measured():
        drawn.append(known_answer.committed())
    return drawn


def _per(info: Mapping[str, Any]) -> Hashable:
    """Held-out prompts stand beside the others, not in their place."""
    return str(info["model"]), str((info.get("config") or {}).get("prompts") or "")


main = figure_command(EXPERIMENT, __doc__, figures, _per)

if __name__ == "__main__":
    raise SystemExit(main())
