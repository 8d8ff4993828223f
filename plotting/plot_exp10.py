"""Figure A.14 of the paper: detectors clamped, against random latents clamped.

python plotting/plot_exp10.py [--results PATH ...] [--output DIR]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from esr.analysis import tables
from plotting import arms
from plotting.arms import Arm, Panel
from plotting.command import Drawn, figure_command
from plotting.sources import Source

EXPERIMENT = "experiment_10_random_latent_control"
NAME = "exp10_random_control"
PARTNERED = "partnered-detectors"


def panels(sources: Sequence[Source]) -> list[Panel]:
    """Baseline, detectors, each set, the detectors that the sets match, and all sets together."""
    return [_panel(source) for source in sources if "pooled" in source.data]


def _panel(source: Source) -> Panel:
    data, title = source.data, source.title
    found = [Arm("baseline", data["baseline"], baseline=True)]
    ablation = data.get("ablation")
    if ablation:
        name = f"{len(data['detectors']['latents'])} detectors clamped to 0"
        found.append(Arm(name, ablation["summary"], ablation["comparison"]))
    # The detectors that the sets match stand beside the whole set.
    for key in sorted(data["arms"], key=lambda key: key != PARTNERED):
        arm = data["arms"][key]
        name = f"random set {key.removeprefix('random-')}: {len(arm['latents'])} latents"
        if key == PARTNERED:
            name = f"the {len(arm['latents'])} detectors with a partner in every set"
        found.append(Arm(name, arm["summary"], arm["comparison"]))
    pooled = data["pooled"]
    found.append(Arm("all random sets", pooled["summary"], pooled["comparison"]))
    return Panel(source, title, found, [*_notes(title, data)])


def _notes(title: str, data: Mapping[str, Any]) -> list[str]:
    match, ablation = data["matching"], data.get("ablation")
    notes = [f"{title}: detectors chosen by {data['detectors']['method']}; {_sets(match)}."]
    against = {
        "detectors with a partner": data.get("partnered_against_random"),
        "all detectors": ablation and ablation["against_random"],
    }
    for name, compared in against.items():
        if compared:
            found = compared["multi_attempt_rate"]
            notes.append(
                f"{title}: multi-attempt rate, {name} over all random sets "
                f"{tables.risk_ratio(found)}, difference {tables.difference(found, 100)} points."
            )
    if not ablation:
        notes.append(f"{title}: no ablation of these detectors in these trials was found.")
    if data.get("differences"):
        notes.append(f"{title}: the baseline differs in {', '.join(data['differences'])}.")
    return notes


def _sets(match: Mapping[str, Any]) -> str:
    if match.get("method") == "uniform":
        return "random sets drawn uniformly"
    counts = ", ".join(f"{q['matched']}/{q['targets']}" for q in match["quality"])
    largest = max((q.get("largest_distance", 0.0) for q in match["quality"]), default=0.0)
    return (
        f"random sets matched on frequency and magnitude, {counts} detectors matched, "
        f"largest distance {largest:.2f} sd"
    )


def figures(sources: Sequence[Source]) -> list[Drawn]:
    """What the command saves."""
    found = panels(sources)
    return [Drawn(NAME, arms.draw(found, EXPERIMENT), arms.table(found))]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and save; 0 if something was drawn from data, 1 if there was nothing, 2 on bad input."""
    return figure_command(EXPERIMENT, __doc__.splitlines()[0], figures, argv)


if __name__ == "__main__":
    sys.exit(main())
