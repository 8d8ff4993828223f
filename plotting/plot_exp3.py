"""Figure 5 of the paper: restarts with the off-topic detectors clamped.

python plotting/plot_exp3.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from plotting import arms
from plotting.arms import Arm, Panel
from plotting.command import Drawn, figure_command
from plotting.sources import Source

EXPERIMENT = "experiment_03_off_topic_detectors"
NAME = "exp3_ablation"


def panels(sources: Sequence[Source]) -> list[Panel]:
    """Baseline and arms of each run."""
    return [_panel(source) for source in sources if "arms" in source.data]


def _panel(source: Source) -> Panel:
    data = source.data
    found = [Arm("baseline", data["baseline"], baseline=True)]
    for name, arm in data["arms"].items():
        note = _untouched(arm)
        found.append(Arm(_named(name, arm), arm["summary"], arm["comparison"], note=note))
    prompts = source.settings.get("prompts")
    title = f"{source.title}, prompts {source.settings['prompt_set']}" if prompts else source.title
    detectors = data["detectors"]["method"]
    own = max(arm["boosted_latent_clamped"] for arm in data["arms"].values())
    notes = [
        f"{title}: {len(data['ablated_latents'])} detectors chosen by {detectors}"
        + (f"; {own:,} trials boost one of them." if own else ".")
    ]
    if data.get("differences") and not prompts:
        notes.append(f"{title}: the baseline differs in {', '.join(data['differences'])}.")
    return Panel(source, title, found, notes)


def _named(name: str, arm: Mapping[str, Any]) -> str:
    if name == "dose-1":
        return "replayed, nothing clamped"
    kind = name.removeprefix("ablation").removeprefix("-")
    effect = f" of {kind} effect" if name.startswith("ablation-") else ""
    dose = "clamped to 0" if arm["dose"] == 0 else f"at {arm['dose']:g} x"
    return f"{len(arm['latents'])} detectors{effect} {dose}"


def _untouched(arm: Mapping[str, Any]) -> str:
    same = arm["identical_responses"]
    return f"{same['count']:,} of {same['n']:,} responses unchanged"


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    found = panels(sources)
    return [Drawn(NAME, arms.draw(found, EXPERIMENT), arms.table(found))]


def _per(facts: Mapping[str, Any]) -> Hashable:
    """Held-out prompts stand beside the others, not in their place."""
    return str(facts["model"]), str((facts.get("config") or {}).get("prompts") or "")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv, _per)


if __name__ == "__main__":
    sys.exit(main())
