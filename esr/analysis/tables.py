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


def interval_of(entry: Mapping[str, Any], of: str = "") -> list[float] | None:
    """The interval that a claim rests on, of an entry of :func:`esr.analysis.metrics.summary`.

    The two-way one; by latent in older files, which have none; Wilson's where neither varies.

    Args:
        entry: a rate, a mean or a null.
        of: "excess_" for the excess over a null.
    """
    older = entry.get(f"{of}cluster_interval") if f"{of}two_way_interval" not in entry else None
    interval: list[float] | None = entry.get(f"{of}two_way_interval") or older
    return interval or (None if of else entry.get("wilson"))


def rate(entry: Mapping[str, Any]) -> str:
    """A rate with its :func:`interval_of`."""
    return f"{percent(entry['rate'])} [{percent_range(interval_of(entry))}]"


RATES = {
    "multi-attempt rate": "multi_attempt_rate",
    "improved, given multi": "conditional_improvement_rate",
    "ESR rate": "esr_rate",
}
"""Names in the terminal, and in a summary."""

NULLS = {
    "N1, redraw from all firsts": "redraw_null",
    "N2, from unabandoned firsts": "unabandoned_null",
}
"""References for "improved, given multi": neither is a null of "restarting does not help"."""

FEW_CLUSTERS = 20
"""With fewer latents or prompts an interval is said to rest on few."""


def summary_table(title: str, summary: Mapping[str, Any], organism: bool) -> str:
    """The table of one arm: counts, rates and intervals of :func:`esr.analysis.metrics.summary`."""
    counts, clusters = summary["counts"], summary.get("clusters") or {}
    prompts = f", prompts {clusters['prompts']}" if clusters else ""
    lines = [
        title,
        f"  trials {counts['trials']}: graded {counts['graded']}, no attempts "
        f"{counts['no_attempts']}, failed {counts['failed']}; degraded {counts['degraded']}; "
        f"latents {summary['latents']}{prompts}",
        f"  {'':28}{'count':>13}{'rate':>10}{_header(clusters):>19}{'95 % by latent':>18}"
        f"{'paper, binomial':>18}{'sees':>7}",
    ]
    for label, key in RATES.items():
        entry = summary[key]
        lines.append(
            f"  {label:28}{_count(entry):>13}{percent(entry['rate']):>10}"
            f"{percent_range(interval_of(entry)):>19}"
            f"{percent_range(entry['cluster_interval']):>18}"
            f"{percent_range(entry['paper_interval']):>18}{_sees(entry):>7}"
        )
    lines += [_null(label, summary[key]) for label, key in NULLS.items() if key in summary]
    lines.append(_score(summary["mean_first_score"]))
    if gate := summary.get("restart_gate"):
        lines.append(_gate(gate))
    if windows := summary.get("keyed"):
        lines.append(_keyed(windows))
    lines += [f"  {note}" for note in _notes(summary)]
    if organism:
        lines.append(f"  {ORGANISM_NOTE}")
    return "\n".join(lines)


def _header(clusters: Mapping[str, Any]) -> str:
    """Of the first intervals: what they take as drawn at random."""
    names = {("latent", "prompt"): "95 % two-way", ("prompt",): "95 % by prompt"}
    return names.get(tuple(clusters.get("by") or ()), "95 %")


def _count(entry: Mapping[str, Any]) -> str:
    return f"{entry['count']} / {entry['n']}"


def _sees(entry: Mapping[str, Any]) -> str:
    smallest = entry.get("smallest_difference")
    return "-" if smallest is None else f"{100 * smallest:.1f}"


def _notes(summary: Mapping[str, Any]) -> list[str]:
    """What the numbers of a table are not to be taken for."""
    notes, entries = [], {label: summary[key] for label, key in RATES.items()}
    even = [f"{label} {_count(e)}" for label, e in entries.items() if e["rate"] in (0.0, 1.0)]
    if even:
        said = ", ".join(even)
        notes.append(f"none or all ({said}): first interval Wilson's, the others have no width")
    papers = {label: e["paper_interval"] for label, e in entries.items() if e["paper_interval"]}
    beyond = [label for label, ends in papers.items() if ends[0] < 0 or ends[1] > 1]
    if beyond:
        notes.append(f"the paper's interval reaches below 0 or above 100 %: {', '.join(beyond)}")
    clusters = summary.get("clusters") or {}
    few = [f"{clusters[f'{by}s']} {by}s" for by in clusters.get("by") or ()]
    few = [said for said in few if int(said.split()[0]) < FEW_CLUSTERS]
    if few and summary["counts"]["graded"]:
        notes.append(f"few clusters ({', '.join(few)}): the first interval is wide, and rough")
    if any("smallest_difference" in entry for entry in entries.values()):
        notes.append("sees: points between two such arms that 80 % of runs would find, 5 % level")
    if "unabandoned_null" in summary and summary["redraw_null"]["n"]:
        notes.append("N1, N2 bracket what chance gives; neither says that restarting helps")
    return notes


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
    for label, key in RATES.items():
        compared = comparison[key]
        paired = compared.get("paired")
        tests = (paired["test"], sign_flip(paired)) if paired else (None, None)
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


def sign_flip(paired: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of the sign flips by latent and by prompt the one of larger p; older files have neither."""
    tests = [test for key in ("sign_flip", "sign_flip_prompt") if (test := paired.get(key))]
    return max(tests, key=lambda test: test["p_value"], default=None)


def p_values(paired: Mapping[str, Any]) -> str:
    """The paper's test of paired arms, and the sign flip in whole clusters."""
    text = f"McNemar p {paired['test']['p_value']:.2g}"
    if flip := sign_flip(paired):
        text += f", sign-flip p {flip['p_value']:.2g}"
    return text


def contrast_ends(compared: Mapping[str, Any], name: str) -> list[float | None] | None:
    """Two-way ends of "difference" or "risk_ratio"; by latent in older files."""
    key = f"{name}_two_way"
    ends: list[float | None] | None = compared[key if key in compared else f"{name}_interval"]
    return ends


def difference(compared: Mapping[str, Any], scale: float) -> str:
    """A difference with its interval (:func:`contrast_ends`), times ``scale``."""
    if compared["difference"] is None:
        return "-"
    ends = contrast_ends(compared, "difference")
    if ends is None or None in ends:
        return f"{scale * compared['difference']:+.2f}"
    low, high = (scale * end for end in ends if end is not None)
    return f"{scale * compared['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"


def risk_ratio(compared: Mapping[str, Any]) -> str:
    """A ratio with its interval (:func:`contrast_ends`); an open end is written as inf."""
    if compared["risk_ratio"] is None:
        return "-"
    ends = contrast_ends(compared, "risk_ratio")
    interval = ""
    if ends is not None:
        interval = f" [{decimal(ends[0], 2, 'inf')}, {decimal(ends[1], 2, 'inf')}]"
    return f"{compared['risk_ratio']:.2f}{interval}"


def decimal(value: float | None, digits: int, missing: str = "-") -> str:
    """A number with so many digits."""
    return missing if value is None else f"{value:.{digits}f}"


def _null(label: str, null: Mapping[str, Any]) -> str:
    size = f"n {null['n']}"
    excess = "-" if null["excess"] is None else f"{100 * null['excess']:+.1f}"
    ends = interval_of(null, "excess_")
    above = f" [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]" if ends else ""
    return (
        f"  {label:28}{size:>13}{percent(null['rate']):>10}{percent_range(interval_of(null)):>19}"
        f"{percent_range(null['cluster_interval']):>18}  improved minus this {excess}{above}"
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
    columns = (interval_of(score), score["cluster_interval"], score["paper_interval"])
    shown = ["-" if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}" for ends in columns]
    size = f"n {score['n']}"
    return (
        f"  {'mean first-attempt score':28}{size:>13}{score['mean']:>10.1f}"
        f"{shown[0]:>19}{shown[1]:>18}{shown[2]:>18}"
    )
