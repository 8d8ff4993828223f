"""The verdicts on K1 to K6, and what the procedure finds with and without a circuit, as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

Entry = Mapping[str, Any]
REFERENCES = ("tiny", "tiny-base")
"""Members without a planted circuit."""


def builds(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of whole circuits, by name (:func:`esr.organism.weakened.name_of`)."""
    return {name: each for name, each in entries.items() if name.startswith("seed ")}


def weakened(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of weakened circuits, strongest first, by name."""
    weak = [(name, each) for name, each in entries.items() if name.startswith("share ")]
    return dict(sorted(weak, key=lambda item: -float(item[1]["share"])))


def judge_gates(entry: Entry, base: Entry, seeds: int) -> dict[str, dict[str, Any]]:
    """K1 to K6 of one build, each with its figures and whether it is passed.

    Args:
        entry: of the build.
        base: of ``tiny-base``.
        seeds: builds that have been measured.
    """
    return {
        "K1": _k1(entry),
        "K2": _k2(entry),
        "K3": _k3(entry),
        "K4": _k4(entry),
        "K5": _k5(entry, base),
        "K6": {"passed": seeds >= 3, "seeds": seeds},
    }


def _k1(entry: Entry) -> dict[str, Any]:
    """A latent along u among the first three by either criterion; carriers stand beside."""
    first = {
        name: max((found["3"] for found in entry[name].values()), default=0)
        for name in ("aligned_hits", "hits")
    }
    best = max((abs(cosine) for cosine in entry["nearest"]["u"].values()), default=0.0)
    return {
        "passed": first["aligned_hits"] > 0,
        "best_cosine": best,
        "largest_share": max(entry["shares"]["u"].values(), default=0.0),
        "carriers_in_first_three": first["hits"],
    }


def _k2(entry: Entry) -> dict[str, Any]:
    """Clamping what was found halves the multi-attempt rate; first scores within 5 points."""
    cut = entry["ablation"]
    if not cut or not cut["pairs"] or cut["ratio"] is None:
        return {"passed": False, "ratio": None, "score_change": None}
    change = cut["first_score"]["ablated"] - cut["first_score"]["baseline"]
    passed = cut["ratio"] <= 0.5 and abs(change) <= 5
    return {"passed": passed, "ratio": cut["ratio"], "score_change": change}


def _k3(entry: Entry) -> dict[str, Any]:
    """Random sets change nothing on average, and none as much as the detectors."""
    drawn = entry["random"]
    ratios = [ratio for ratio in drawn["ratios"] if ratio is not None] if drawn else []
    cut = entry["ablation"]["ratio"] if entry["ablation"] else None
    if not ratios or cut is None:
        return {"passed": False, "mean_ratio": None, "sets": len(ratios), "lowest": None}
    mean, lowest = fmean(ratios), min(ratios)
    passed = 0.9 <= mean <= 1.1 and cut < lowest and len(ratios) >= 20
    return {"passed": passed, "mean_ratio": mean, "sets": len(ratios), "lowest": lowest}


def _k4(entry: Entry) -> dict[str, Any]:
    """Experiment 9: d of the true detectors above 1; experiment 6: higher before the restart."""
    statistics, trace = entry["true"]["statistics"], entry["true"]["trace"]
    size = statistics["cohens_d"] if statistics else None
    rho = trace["spearman"] if trace else None
    passed = size is not None and size > 1 and rho is not None and rho > 0
    return {"passed": passed, "cohens_d": size, "spearman": rho}


def _k5(entry: Entry, base: Entry) -> dict[str, Any]:
    """No effect of the decoy, nor of anything on a model that never restarts."""
    effects = {"decoy": entry["decoy"]["ablation"], "tiny-base": base.get("ablation")}
    intervals = {name: cut["interval"] if cut else None for name, cut in effects.items()}
    return {
        "passed": all(cut is not None and _none(cut) for cut in effects.values()),
        "difference": {name: cut["difference"] if cut else None for name, cut in effects.items()},
        "interval": intervals,
    }


def _none(cut: Entry) -> bool:
    """Whether an ablation shows no effect: its interval holds 0, or nothing changed at all."""
    ends = cut["interval"]
    return bool(cut["difference"] == 0 if ends is None else ends[0] <= 0 <= ends[1])


def gate_table(path: Path) -> str:
    """The gates of a JSON file as a Markdown table, one column per seed; empty without a seed."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    whole, base = builds(entries), entries.get("tiny-base", {})
    if not whole:
        return ""
    verdicts = {name: judge_gates(each, base, len(whole)) for name, each in whole.items()}
    rows = [["gate", *whole], ["---"] * (len(whole) + 1)]
    for gate in ("K1", "K2", "K3", "K4", "K5", "K6"):
        rows.append([gate, *(_verdict(verdict[gate]) for verdict in verdicts.values())])
    return _markdown(rows)


def _verdict(gate: Entry) -> str:
    figures = "; ".join(
        f"{name.replace('_', ' ')} {_shown(value)}"
        for name, value in gate.items()
        if name != "passed"
    )
    return f"{'passed' if gate['passed'] else '**not passed**'}: {figures}"


def _shown(value: Any) -> str:
    match value:
        case None:
            return "none"
        case float():
            return f"{value:.2f}"
        case Mapping():
            return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
        case list():
            return "[" + ", ".join(_shown(each) for each in value) + "]"
    return str(value)


def answer_table(path: Path) -> str:
    """What the procedure finds when there is something, in each seed, and when there is nothing."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    subjects: list[tuple[str, Entry]] = []
    for name, each in builds(entries).items():
        subjects += [
            (f"`tiny-circuit`, {name}, what was found", each),
            ("its true detectors", each["true"]),
            ("its decoy", each["decoy"]),
        ]
    subjects += [(f"`{name}`", entries[name]) for name in REFERENCES if name in entries]
    head = [
        *("model", "passing strict", "hits in the first 3 / 10 / 26, strict", "the same, AUC"),
        *("multi-attempt, detectors at 0", "difference, points", "first score"),
        *("random sets, ratio", "Cohen's d", "Spearman"),
    ]
    rows = [head, ["---"] * len(head)]
    rows += [[name, *_cells(entry)] for name, entry in subjects]
    return _markdown(rows)


def weak_table(path: Path) -> str:
    """Weakened circuits, strongest first: what is true of each, and what the procedure sees of it.

    Empty where none has been measured.
    """
    weak = weakened(json.loads(path.read_text(encoding="utf-8")))
    if not weak:
        return ""
    head = [
        *("circuit", "decision that follows u", "carriers in the first 3 / 10 / 26, AUC"),
        *("found, at 0: points", "ratio", "random sets, ratio"),
        *("carriers alone, at 0: points", "ratio"),
    ]
    rows = [head, ["---"] * len(head)]
    for name, entry in weak.items():
        own = entry["true"]
        rows.append(
            [
                name,
                f"{entry['follows']['u, end']['followed']:.2f}",
                " / ".join(map(str, own["hits"]["separability"].values())),
                *_change(entry.get("ablation")),
                _spread(entry.get("random")),
                *_change(own["ablation"]),
            ]
        )
    return _markdown(rows)


def _change(cut: Entry | None) -> tuple[str, str]:
    if not cut or not cut["pairs"] or cut["ratio"] is None:
        return "-", "-"
    return _points(cut), f"{cut['ratio']:.2f}"


def _cells(entry: Entry) -> list[str]:
    found, cut, drawn = entry.get("hits"), entry.get("ablation"), entry.get("random")
    search, statistics, trace = entry.get("search"), entry.get("statistics"), entry.get("trace")
    cells = [str(len(search["strict"])) if search else "-"]
    for criterion in ("strict", "separability"):
        cells.append(" / ".join(map(str, found[criterion].values())) if found else "no truth")
    if cut and cut["pairs"]:
        score = cut["first_score"]
        cells += [
            f"{100 * cut['baseline']:.1f} to {100 * cut['ablated']:.1f} %",
            _points(cut),
            f"{score['baseline']:.1f} to {score['ablated']:.1f}",
        ]
    else:
        cells += ["-"] * 3
    cells.append(_spread(drawn))
    size = statistics["cohens_d"] if statistics else None
    cells.append("-" if size is None or not statistics else f"{size:.2f} (n {statistics['n']})")
    rho = trace["spearman"] if trace else None
    cells.append("-" if rho is None else f"{rho:.2f}")
    return cells


def _spread(drawn: Entry | None) -> str:
    ratios = [ratio for ratio in drawn["ratios"] if ratio is not None] if drawn else []
    if not ratios:
        return "-"
    return f"{fmean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} sets)"


def _points(cut: Entry) -> str:
    ends = cut["interval"]
    shown = f"{100 * cut['difference']:+.1f}"
    return shown + (f" [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]" if ends else "")


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
