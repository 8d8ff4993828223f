"""The tables of experiment 11 for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from esr.analysis import tables
from esr.analysis.tables import decimal, percent, percent_range
from experiment_11_resistance_controls.config import CONTROLS


def show(data: Mapping[str, Any]) -> str:
    """What this leaves of ESR: one line per arm, then what each control says of itself."""
    config, baseline = data["experiment_config"], data["baseline"]
    lines = [
        f"Resistance controls, {config['model_title']}, judge {config['judge_id']}: "
        "what this leaves of ESR",
        f"  {'arm':34}{'graded':>7}{'multi':>9}{'improved':>10}{'ESR':>9}  "
        f"{'95 % two-way':>16}{'first':>7}  {'ESR, arm - parent':>24}",
        _line("parent", baseline["summary"], None),
    ]
    for name, arm in data["arms"].items():
        if not arm["part"]:
            lines.append(_line(name, arm["summary"], arm["comparison"]))
    lines += [line for name in data["findings"] for line in _finding(name, data["findings"][name])]
    lines += [f"  {name}: left out, {reason}" for name, reason in data["left_out"].items()]
    if baseline["differences"]:
        lines.append(f"  The runs also differ in: {', '.join(baseline['differences'])}.")
    if config["organism"]:
        lines.append(f"  {tables.ORGANISM_NOTE}")
    return "\n".join(lines)


def _line(name: str, summary: Mapping[str, Any], compared: Mapping[str, Any] | None) -> str:
    esr = summary["esr_rate"]
    difference = tables.difference(compared["esr_rate"], 100) if compared else ""
    return (
        f"  {name:34}{summary['counts']['graded']:>7}"
        f"{percent(summary['multi_attempt_rate']['rate']):>9}"
        f"{percent(summary['conditional_improvement_rate']['rate']):>10}{percent(esr['rate']):>9}  "
        f"{percent_range(two_way(esr)):>16}{decimal(summary['mean_first_score']['mean'], 1):>7}  "
        f"{difference:>24}"
    )


def two_way(entry: Mapping[str, Any]) -> list[float] | None:
    """The two-way interval; the one by latent of older files, Wilson's where neither varies."""
    for key in ("two_way_interval", "cluster_interval", "wilson"):
        ends: list[float] | None = entry.get(key)
        if ends is not None:
            return ends
    return None


def _finding(name: str, found: Mapping[str, Any]) -> Iterator[str]:
    yield f"  {name}: {CONTROLS.get(name, 'unsteered minus steered, on the same beginnings')}"
    if name in ("redraw", "position"):
        against = "another try" if name == "redraw" else "going on"
        yield (
            f"    {found['improved']} of {found['n']} restarts improved, {against} would have in "
            f"{percent(found['rate'])} (of {found['compared']}): excess {percent(found['excess'])} "
            f"[{percent_range(found['excess_two_way_interval'])}]"
        )
    elif name == "prefill":
        for group, compared in found.items():
            multi, improved = (
                compared["multi_attempt_rate"],
                compared["conditional_improvement_rate"],
            )
            yield (
                f"    {group}: restarts {percent(multi['first'])} against "
                f"{percent(multi['second'])}, {tables.difference(multi, 100)} points; improved "
                f"given multi {percent(improved['first'])} against {percent(improved['second'])}"
            )
    elif name == "matched-prefix":
        for arm, score in found["scores"].items():
            compared = found["natural_against"].get(arm)
            ratio = f"; natural is {tables.risk_ratio(compared)} x that" if compared else ""
            mean = decimal(score["mean"], 1)
            yield f"    {arm}: what follows scores {mean}, n {score['n']}{ratio}"
    elif name == "length":
        for row in found["attempts"]:
            yield (
                f"    {row['attempt']}: n {row['n']}, words {decimal(row['words'], 1)}, score "
                f"{decimal(row['score'], 1)}, cut off {percent(row['cut_off'])}, degraded "
                f"{percent(row['degraded'])}, score by words {decimal(row['score_by_words'], 2)}"
            )
        yield _line("    whole, not degraded", found["whole"], None)
