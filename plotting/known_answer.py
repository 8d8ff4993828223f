"""What the procedure finds when there is something, and when there is nothing.

python plotting/known_answer.py [--gates FILE] [--log FILE] [--output DIR]

Draws what ``python -m esr.organism gates circuit`` has measured, and how the planted circuit was
trained: detectors clamped against random sets clamped for each model, the share of the restart
decision that follows the replaced value over the training steps, and what a weaker circuit would
have been found with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from esr.errors import UserError
from esr.organism.circuit_table import REFERENCES, builds, weakened
from esr.runs.paths import ORGANISM
from esr.runs.user_files import read_json
from plotting import style
from plotting.figure import Drawn, Panel, compose, save
from plotting.sources import Source

NAME = "exp3_known_answer"
MEMBER = "tiny-circuit"
COMMAND = "python -m esr.organism gates circuit"
GATES = ORGANISM / "circuit-gates.json"
LOG = ORGANISM / "training-circuit.jsonl"
CURVES = {
    "measured": ("these trials, interval below 0", "-"),
    "outside": ("these trials, beyond every random set", "--"),
    "paper": ("5,000 trials at a rate of 7.38 %", ":"),
}


def subjects(entries: Mapping[str, Any]) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """Name on the axis -> (registry key, entry), from top to bottom."""
    rows: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for name, entry in builds(entries).items():
        rows[f"{name}: found"] = (MEMBER, entry)
        rows[f"{name}: true"] = (MEMBER, entry["true"])
        rows[f"{name}: decoy"] = (MEMBER, entry["decoy"])
    for entry in weakened(entries).values():
        rows[f"{entry['share']:.0%} circuit: found"] = (MEMBER, entry)
        rows[f"{entry['share']:.0%} circuit: true"] = (MEMBER, entry["true"])
    for key in REFERENCES:
        if key in entries:
            rows[key] = (key, entries[key])
    return rows


def effects(entries: Mapping[str, Any]) -> pd.DataFrame:
    """One row per model and arm: difference in multi-attempts, points, with its interval."""
    rows = []
    for name, (key, entry) in subjects(entries).items():
        cut, drawn = entry.get("ablation"), entry.get("random")
        if cut and cut["pairs"]:
            low, high = cut["interval"] or (None, None)
            rows.append(_row(name, key, "detectors", cut["difference"], low, high))
        if cut and drawn:
            rows += [
                _row(name, key, "random set", (ratio - 1) * cut["baseline"], None, None)
                for ratio in drawn["ratios"]
                if ratio is not None
            ]
    return pd.DataFrame(rows)


def _row(name: str, key: str, arm: str, value: float, *ends: float | None) -> dict[str, Any]:
    low, high = (None if end is None else 100 * end for end in ends)
    return {
        **{"panel": "effect", "subject": name, "model": key, "arm": arm},
        **{"x": 100 * value, "low": low, "high": high},
    }


def training(log: Path) -> pd.DataFrame:
    """Share of the decision that follows the replaced value, per measured step."""
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return pd.DataFrame(
        [
            {"panel": "training", "arm": name, "x": line["step"], "y": cell["followed"]}
            for line in lines
            if "follows" in line
            for name, cell in line["follows"].items()
            if "followed" in cell
        ]
    )


def power(entries: Mapping[str, Any]) -> pd.DataFrame:
    """Power over the relative cut, one row per curve and point, first seed that has it."""
    measured = [entry["power"] for entry in entries.values() if entry.get("power")]
    if not measured:
        return pd.DataFrame()
    curves = measured[0]
    return pd.DataFrame(
        [
            {"panel": "power", "arm": name, "x": 100 * cut, "y": value}
            for name in CURVES
            for cut, value in zip(curves["cut"], curves[name], strict=True)
        ]
    )


def figure(entries: Mapping[str, Any], log: Path) -> Drawn:
    """The figure of a JSON file of gates and a training log."""
    effect, steps, found = effects(entries), training(log), power(entries)
    n_rows = effect["subject"].nunique() if len(effect) else 1
    rows = [
        (0.7 + 0.2 * n_rows, [Panel(lambda axes: _effects(axes, effect), x=_EFFECT)]),
        (1.5, [Panel(lambda axes: _training(axes, steps), x="training step", y="share followed")]),
        (2.1, [_power_panel(found)]),
    ]
    names = {"tiny-circuit": "tiny organism, planted circuit", "tiny": "tiny organism"}
    sources = [Source(title, key, GATES, True, []) for key, title in names.items()]
    return compose(
        NAME,
        COMMAND,
        rows,
        pd.concat([effect, steps, found], ignore_index=True),
        about="What the procedure finds when there is something, and when there is nothing.",
        sources=sources,
        notes=[
            "Top: multi-attempt rate with the detectors clamped to 0 minus without, in points, "
            "with two-way 95 % intervals; grey: each matched random set. The circuit was planted "
            "by training, its decoy is as active and drives nothing; a weakened circuit is mixed "
            "in its weights with the model it was trained from.",
            "Middle: share of the difference in P(restart) between an off-topic text and its "
            "on-topic twin that follows the value replaced along u (the circuit) and along d (the "
            "decoy), at the sentence end or in the whole answer.",
            "Bottom: chance to see a circuit through which only a part of the restarts passes, "
            "mixed from measured trials; dotted: as many trials as the paper's, at its rate.",
        ],
    )


_EFFECT = "change of the multi-attempt rate, points"


def _effects(axes: Axes, effect: pd.DataFrame) -> None:
    names = list(dict.fromkeys(effect["subject"]))
    for at, name in enumerate(names):
        own = effect[effect["subject"] == name]
        drawn = own[own["arm"] == "random set"]
        axes.plot(drawn["x"], [at] * len(drawn), "|", color=style.BASELINE, ms=5, mew=0.6)
        for _, row in own[own["arm"] == "detectors"].iterrows():
            if pd.notna(row["low"]):
                axes.plot([row["low"], row["high"]], [at, at], color=style.ORGANISM, lw=1)
            axes.plot([row["x"]], [at], "o", color=style.ORGANISM, ms=3)
    axes.axvline(0, color=style.FAINT, lw=0.6, ls=style.DASHED)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _training(axes: Axes, steps: pd.DataFrame) -> None:
    for name, own in steps.groupby("arm", sort=False):
        dashed = "-" if str(name).endswith("end") else style.DASHED
        ink = style.ORGANISM if str(name).startswith("u") else style.BASELINE
        axes.plot(own["x"], own["y"], "o", ls=dashed, color=ink, ms=2, label=str(name))
    axes.set_ylim(-0.1, 1.1)
    axes.legend(loc="center right")


def _power_panel(found: pd.DataFrame) -> Panel:
    x, y = "restarts that pass through the circuit, %", "chance to see it"
    if found.empty:
        return Panel(None, x=x, y=y, empty="no random sets have been measured")
    return Panel(lambda axes: _power(axes, found), x=x, y=y)


def _power(axes: Axes, found: pd.DataFrame) -> None:
    for name, (label, dashed) in CURVES.items():
        own = found[found["arm"] == name]
        axes.plot(own["x"], own["y"], ls=dashed, color=style.ORGANISM, label=label)
    axes.axvline(25, color=style.MARK, lw=0.6, ls=style.DASHED)
    axes.set_ylim(0, 1.05)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.02), borderaxespad=0)


def measured() -> bool:
    """Whether there is something to draw."""
    return GATES.is_file() and LOG.is_file()


def committed() -> Drawn:
    """The figure of what is committed.

    Raises:
        UserError: the file of gates cannot be read.
    """
    return figure(_read(GATES), LOG)


def _read(gates: Path) -> dict[str, Any]:
    form = "JSON as the command below writes it"
    return read_json(gates, dict[str, Any], "a file of gates", form, COMMAND)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; 0 if something was drawn, 1 without data, 2 on bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--gates", type=Path, default=GATES, metavar="FILE", help="JSON of gates")
    parser.add_argument("--log", type=Path, default=LOG, metavar="FILE", help="training log")
    parser.add_argument("--output", type=Path, default=style.FIGURES, help="folder to write to")
    options = parser.parse_args(argv)
    if not (options.gates.is_file() and options.log.is_file()):
        print(f"no {options.gates} with {options.log}; run: {COMMAND}", file=sys.stderr)
        return 1
    try:
        paths = save(figure(_read(options.gates), options.log), options.output)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
