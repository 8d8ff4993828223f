"""Results of experiment 12 as lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from esr.analysis import tables


def operators(data: Mapping[str, Any]) -> str:
    """One line per arm: rates in percent with their counts, scores, divergence and geometry."""
    config = data["experiment_config"]
    lines = [
        f"Steering operators on {config['model_title']}, judge {config['judge_id']}: towards the "
        "same concepts, at equal effect",
        f"  {'arm':16}{'latents':>8}{'trials':>7}{'multi':>7}{'improved':>10}{'N1':>6}{'N2':>6}"
        f"{'ESR':>7}{'first':>7}{'nats':>7}{'open':>6}{'change':>8}{'length':>8}",
    ]
    for name, arm in data["arms"].items():
        lines.append(_line(name, arm))
    for name, arm in data["arms"].items():
        lines += [
            f"  {name}: latent {latent} left out: {reason}"
            for latent, reason in arm["failed"].items()
        ]
    lines.append(
        "  multi, ESR: per cent of graded trials; improved: of multi-attempt trials, beside what a "
        "redraw of the first"
    )
    lines.append(
        "  attempt gives (N1 all, N2 not abandoned ones); nats: per token, of the first 32 from "
        "the unsteered model; open:"
    )
    lines.append(
        "  per cent of tokens changed; change: its length over the row's; length: growth of the "
        "row, both per cent."
    )
    if config["organism"]:
        lines.append(f"  {tables.ORGANISM_NOTE}")
    return "\n".join(lines)


def _line(name: str, arm: Mapping[str, Any]) -> str:
    summary, shape = arm["summary"], arm["geometry"] or {}
    nulls = nulls_of(summary)
    first = summary["mean_first_score"]["mean"]
    return (
        f"  {name:16}{len(arm['values']):>8}{summary['counts']['trials']:>7}"
        f"{_percent(summary['multi_attempt_rate']['rate']):>7}"
        f"{_percent(summary['conditional_improvement_rate']['rate']):>10}"
        f"{_percent(nulls[0]):>6}{_percent(nulls[1]):>6}"
        f"{_percent(summary['esr_rate']['rate']):>7}{_fixed(first, 1):>7}"
        f"{_fixed(arm['divergence'], 2):>7}{_percent(shape.get('open_share')):>6}"
        f"{_percent(shape.get('change')):>8}{_percent(shape.get('growth')):>8}"
    )


def nulls_of(summary: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """What a redraw from all first attempts gives, and from unabandoned ones."""
    unabandoned = summary.get("unabandoned_null") or {}
    return summary["redraw_null"]["rate"], unabandoned.get("rate")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _fixed(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def defence(data: Mapping[str, Any]) -> str:
    """One line per operator and strength."""
    config = data["experiment_config"]
    lines = [
        f"Defence on {config['model_title']}, judge {config['judge_id']}: back to the question, "
        f"at layers {', '.join(map(str, data['defence_layers']))}, against the parent's boosts",
        f"  {'arm':12}{'trials':>7}{'first':>7}{'restored':>10}{'multi':>7}{'ESR':>7}{'open':>6}"
        f"{'change':>8}{'clean first':>13}{'cost':>7}",
        _defence_line("unsteered", {"defended": None, "clean": data["unsteered"]}),
        _defence_line("boost", {"defended": data["baseline"], "clean": None}),
    ]
    lines += [_defence_line(name, arm) for name, arm in data["arms"].items()]
    lines.append(
        "  restored: per cent of what the boost takes from the first score; cost: points of the "
        "clean first score, without a boost;"
    )
    lines.append(
        "  open, change: of the defence under the boost, per cent of tokens and of length."
    )
    lines += [f"  latent {k} left out: {reason}" for k, reason in data["failed"].items()]
    if config["organism"]:
        lines.append(f"  {tables.ORGANISM_NOTE}")
    return "\n".join(lines)


def _defence_line(name: str, arm: Mapping[str, Any]) -> str:
    summary, clean, shape = arm["defended"], arm["clean"], arm.get("geometry") or {}

    def of(part: Mapping[str, Any] | None, key: str, value: str) -> float | None:
        return None if part is None else part[key][value]

    n = (summary or clean or {})["counts"]["trials"]
    return (
        f"  {name:12}{n:>7}{_fixed(of(summary, 'mean_first_score', 'mean'), 1):>7}"
        f"{_percent(arm.get('restored')):>10}"
        f"{_percent(of(summary, 'multi_attempt_rate', 'rate')):>7}"
        f"{_percent(of(summary, 'esr_rate', 'rate')):>7}{_percent(shape.get('open_share')):>6}"
        f"{_percent(shape.get('change')):>8}"
        f"{_fixed(of(clean, 'mean_first_score', 'mean'), 1):>13}{_fixed(arm.get('cost'), 1):>7}"
    )
