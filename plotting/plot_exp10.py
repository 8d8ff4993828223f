"""Figure A.14 of the paper: detectors clamped, against random latents clamped.

python plotting/plot_exp10.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esr.analysis import tables
from plotting import arms, style
from plotting.arms import Arm, Group
from plotting.command import figure_command
from plotting.figure import Drawn
from plotting.sources import Source

EXPERIMENT = "experiment_10_random_latent_control"
NAME = "exp10_random_control"
PARTNERED = "partnered-detectors"


def _group(source: Source) -> Group:
    """Baseline, detectors, the detectors that the sets match, each set, and all sets together."""
    data = source.data
    detectors = arms.detectors(data["detectors"]["latents"], data["detectors"]["method"])
    shown = [Arm("baseline", data["baseline"], colour=style.BASELINE)]
    if ablation := data.get("ablation"):
        name = f"{detectors} clamped to 0"
        shown.append(Arm(name, ablation["summary"], ablation["comparison"]))
    for key in sorted(data["arms"], key=lambda key: key != PARTNERED):
        arm = data["arms"][key]
        name = f"random set {key.removeprefix('random-')}: {len(arm['latents'])} latents"
        if key == PARTNERED:
            name = f"the {len(arm['latents'])} with a partner in every set"
        shown.append(Arm(name, arm["summary"], arm["comparison"]))
    pooled = data["pooled"]
    shown.append(Arm("all random sets", pooled["summary"], pooled["comparison"]))
    return Group(source, source.title, shown, _notes(source.title, data))


def _notes(title: str, data: Mapping[str, Any]) -> list[str]:
    ablation = data.get("ablation")
    notes = [f"{title}: detectors chosen by {data['detectors']['method']}; {_sets(data)}."]
    against = {
        "detectors with a partner": data.get("partnered_against_random"),
        "all detectors": ablation and ablation["against_random"],
    }
    for name, comparison in against.items():
        if comparison:
            compared = comparison["multi_attempt_rate"]
            notes.append(
                f"{title}: multi-attempt rate, {name} over all random sets "
                f"{tables.risk_ratio(compared)}, difference "
                f"{tables.difference(compared, 100)} points."
            )
    if not ablation:
        notes.append(f"{title}: no ablation of these detectors in these trials was found.")
    if data.get("differences"):
        notes.append(f"{title}: the baseline differs in {', '.join(data['differences'])}.")
    return notes


def _sets(data: Mapping[str, Any]) -> str:
    if data["matching"].get("method") == "uniform":
        return "random sets drawn uniformly"
    quality = data["matching"]["quality"]
    counts = ", ".join(f"{q['matched']}/{q['targets']}" for q in quality)
    largest = max((q.get("largest_distance", 0.0) for q in quality), default=0.0)
    return (
        f"random sets matched on frequency and magnitude, {counts} detectors matched, "
        f"largest distance {largest:.2f} sd"
    )


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    groups = [_group(source) for source in sources if "pooled" in source.data]
    about = "Detectors clamped, against random latents clamped (Figure A.14 of the paper)."
    return [arms.draw(NAME, EXPERIMENT, groups, arms.table(groups), about)]


main = figure_command(EXPERIMENT, __doc__, figures)

if __name__ == "__main__":
    raise SystemExit(main())
