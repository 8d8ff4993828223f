"""Results as lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ORGANISM_NOTE = "A trained demonstration organism: no evidence about large models."

FAILURES_SHOWN = 5
"""Latents without a threshold that are named in the terminal; results.json has all."""


def percent(value: float | None) -> str:
    """A share as a percentage, "-" where it is not defined."""
    return "-" if value is None else f"{100 * value:.2f} %"


def percent_range(pair: list[float] | None) -> str:
    """An interval of shares as percentages."""
    return "-" if pair is None else f"{100 * pair[0]:.2f} to {100 * pair[1]:.2f}"


def rate(entry: Mapping[str, Any]) -> str:
    """A rate with its interval by latent, Wilson's where the bootstrap has none."""
    ends = percent_range(entry["cluster_interval"] or entry["wilson"])
    return f"{percent(entry['rate'])} [{ends}]"


def summary_table(title: str, summary: Mapping[str, Any], organism: bool) -> str:
    """The table of one arm: counts, rates and intervals of :func:`esr.analysis.metrics.summary`."""
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
        entry = summary[key]
        lines.append(
            f"  {label:28}{entry['count']:>5} / {entry['n']:<4}{percent(entry['rate']):>10}  "
            f"{percent_range(entry['paper_interval']):>17}  "
            f"{percent_range(entry['cluster_interval']):>17}"
        )
    lines += [_null(summary["redraw_null"]), _score(summary["mean_first_score"])]
    if gate := summary.get("restart_gate"):
        lines.append(_gate(gate))
    if windows := summary.get("keyed"):
        lines.append(_keyed(windows))
    if organism:
        lines.append(f"  {ORGANISM_NOTE}")
    return "\n".join(lines)


def latent_lines(data: Mapping[str, Any]) -> list[str]:
    """What became of the latents of a run, one line each; none where there is nothing to say.

    Args:
        data: results with ``results_by_feature``, and ``selection`` where latents were chosen.
    """
    lines = []
    if note := data.get("selection", {}).get("note"):
        lines.append(f"  note: {note}")
    failed = [entry for entry in data["results_by_feature"] if entry["error"]]
    if failed:
        named = [f"{e['feature_index_in_sae']} ({e['error']})" for e in failed[:FAILURES_SHOWN]]
        more = len(failed) - len(named)
        lines.append(
            f"  {len(failed)} of {len(data['results_by_feature'])} latents have no threshold and "
            f"no trials: {', '.join(named)}{f', and {more} more' if more else ''}"
        )
    rough = [e for e in data["results_by_feature"] if (e.get("calibration") or {}).get("unjudged")]
    if rough:
        lines.append(
            f"  {len(rough)} calibrations had verdicts that failed: repeating the command asks "
            "again and may change their thresholds"
        )
    return lines


def comparison_table(
    title: str,
    arm: Mapping[str, Any],
    baseline: Mapping[str, Any],
    comparison: Mapping[str, Any],
) -> str:
    """An arm beside its baseline.

    Args:
        title: first line.
        arm: its :func:`esr.analysis.metrics.summary`.
        baseline: likewise, of the trials it replays.
        comparison: the :func:`esr.analysis.comparison.summary` of both.
    """
    lines = [
        title,
        f"  {'':24}{'baseline':>16}{'here':>16}  {'difference, 95 %':>24}"
        f"  {'ratio, 95 %':>22}  {'McNemar p':>9}  {'sign-flip p':>11}",
    ]
    for label, key in (
        ("multi-attempt rate", "multi_attempt_rate"),
        ("improved, given multi", "conditional_improvement_rate"),
        ("ESR rate", "esr_rate"),
    ):
        compared = comparison[key]
        paired = compared.get("paired")
        tests = [(paired or {}).get(key) for key in ("test", "sign_flip")]
        p_values = [f"{test['p_value']:.3g}" if test else "-" for test in tests]
        shares = [f"{r['count']}/{r['n']} {percent(r['rate'])}" for r in (baseline[key], arm[key])]
        lines.append(
            f"  {label:24}{shares[0]:>16}{shares[1]:>16}  {difference(compared, 100):>24}"
            f"  {risk_ratio(compared):>22}  {p_values[0]:>9}  {p_values[1]:>11}"
        )
    compared = comparison["mean_first_score"]
    scores = [decimal(compared["second"], 1), decimal(compared["first"], 1)]
    lines.append(
        f"  {'mean first-attempt score':24}{scores[0]:>16}{scores[1]:>16}  "
        f"{difference(compared, 1):>24}  {risk_ratio(compared):>22}  {'-':>9}  {'-':>11}"
    )
    return "\n".join(lines)


def p_values(paired: Mapping[str, Any]) -> str:
    """The paper's test of paired arms and the one by latent, which older files have not."""
    text = f"McNemar p {paired['test']['p_value']:.2g}"
    if flip := paired.get("sign_flip"):
        text += f", sign-flip p {flip['p_value']:.2g} by latent"
    return text


def difference(compared: Mapping[str, Any], scale: float) -> str:
    """A difference with its clustered interval, times ``scale``."""
    if compared["difference"] is None:
        return "-"
    ends = compared["difference_interval"]
    interval = "" if ends is None else f" [{scale * ends[0]:+.2f}, {scale * ends[1]:+.2f}]"
    return f"{scale * compared['difference']:+.2f}{interval}"


def risk_ratio(compared: Mapping[str, Any]) -> str:
    """A ratio with its clustered interval; an open end is written as inf."""
    if compared["risk_ratio"] is None:
        return "-"
    ends = compared["risk_ratio_interval"]
    interval = ""
    if ends is not None:
        interval = f" [{decimal(ends[0], 2, 'inf')}, {decimal(ends[1], 2, 'inf')}]"
    return f"{compared['risk_ratio']:.2f}{interval}"


def decimal(value: float | None, digits: int, missing: str = "-") -> str:
    """A number with so many digits."""
    return missing if value is None else f"{value:.{digits}f}"


def _null(null: Mapping[str, Any]) -> str:
    return (
        f"  {'redraw null, given multi':28}{'n ' + str(null['n']):>12}{percent(null['rate']):>10}  "
        f"{'':17}  {percent_range(null['cluster_interval']):>17}"
    )


def _gate(gate: Mapping[str, Any]) -> str:
    return (
        f"  restarts, of {gate['n']} graded: judge and announced {gate['both']}, judge only "
        f"{gate['judge_only']}, announced only {gate['gate_only']}"
    )


def _keyed(entry: Mapping[str, Any]) -> str:
    total = sum(entry["windows"].values())
    shares = ", ".join(
        f"{state} {percent(count / total if total else None)}"
        for state, count in entry["windows"].items()
    )
    return (
        f"  windows: {shares}; of {entry['n']} responses recovered silently "
        f"{entry['silent_recovery']}, announced {entry['announced_recovery']}; drifted silently "
        f"{entry['silent_drift']}, announced {entry['announced_drift']}"
    )


def _score(score: Mapping[str, Any]) -> str:
    if score["mean"] is None:
        return "  mean first-attempt score    -"
    low, high = score["cluster_interval"] or (float("nan"), float("nan"))
    return (
        f"  {'mean first-attempt score':28}{'n ' + str(score['n']):>12}{score['mean']:>10.1f}  "
        f"{'':17}  {f'{low:.1f} to {high:.1f}':>17}"
    )
