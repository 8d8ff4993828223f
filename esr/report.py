"""Results as lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float | None) -> str:
    """A share as a percentage, "-" where it is not defined."""
    return "-" if value is None else f"{100 * value:.2f} %"


def percent_range(pair: list[float] | None) -> str:
    """An interval of shares as percentages."""
    return "-" if pair is None else f"{100 * pair[0]:.2f} to {100 * pair[1]:.2f}"


def summary_table(title: str, summary: Mapping[str, Any], organism: bool) -> str:
    """The table of one arm: counts, rates and intervals of :func:`esr.metrics.summary`."""
    counts = summary["counts"]
    lines = [
        title,
        f"  trials {counts['trials']}: graded {counts['graded']}, no attempts "
        f"{counts['no_attempts']}, failed {counts['failed']}; degraded {counts['degraded']}; "
        f"latents {summary['latents']}",
        f"  {'':28}{'count':>12}{'rate':>10}  {'95 % binomial':>17}  {'95 % by latent':>17}",
    ]
    for label, key in (
        ("multi-attempt rate", "multi_attempt_rate"),
        ("improved, given multi", "conditional_improvement_rate"),
        ("ESR rate", "esr_rate"),
    ):
        rate = summary[key]
        lines.append(
            f"  {label:28}{rate['count']:>5} / {rate['n']:<4}{percent(rate['rate']):>10}  "
            f"{percent_range(rate['paper_interval']):>17}  "
            f"{percent_range(rate['cluster_interval']):>17}"
        )
    lines += [_null(summary["redraw_null"]), _score(summary["mean_first_score"])]
    if organism:
        lines.append("  A trained demonstration organism: no evidence about large models.")
    return "\n".join(lines)


def _null(null: Mapping[str, Any]) -> str:
    return (
        f"  {'redraw null, given multi':28}{'n ' + str(null['n']):>12}{percent(null['rate']):>10}  "
        f"{'':17}  {percent_range(null['cluster_interval']):>17}"
    )


def _score(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "  mean first-attempt score    -"
    low, high = score["cluster_interval"] or (float("nan"), float("nan"))
    return (
        f"  {'mean first-attempt score':28}{'n ' + str(score['n']):>12}{score['mean']:>10.1f}  "
        f"{'':17}  {f'{low:.1f} to {high:.1f}':>17}"
    )
