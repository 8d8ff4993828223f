"""What experiment 7 writes and prints."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, combinations
from typing import Any

from esr.analysis import agreement, metrics, stratified, tables
from esr.analysis.stratified import Design
from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.trials import by_feature, finished
from esr.runs.plain import plain
from experiment_07_cross_judge import blind
from experiment_07_cross_judge.sample import ORIGINAL, Sample


def outcome_results(
    context: RunContext,
    sample: Sample,
    arms: Mapping[str, list[TrialSpec]],
    infos: Mapping[str, Any],
) -> dict[str, Any]:
    """``results.json`` of experiment 7."""
    records: dict[str, list[TrialRecord]] = {a: finished(s, context) for a, s in arms.items()}
    outcomes = {arm: [r.outcome() for r in graded] for arm, graded in records.items()}
    design, seed = sample.design, context.seed
    everything = context.replayed.outcomes()
    whole = {ORIGINAL: (everything, Design.whole(everything))}
    judges = [arm for arm in outcomes if arm not in blind.ARMS]
    pairs = [*combinations(judges, 2), *((ORIGINAL, arm) for arm in outcomes if arm in blind.ARMS)]
    original = context.replayed.results.experiment_config
    return {
        "experiment_config": {
            **context.experiment_config(),
            "judge_id": original.judge_id or original.judge_model_name,
            "rubric_hash": original.rubric_hash,
            "judges": dict(infos),
        },
        "sample": sample.to_json(),
        "by_judge": {
            arm: {
                "sample": metrics.summary(graded, seed),
                # The run's own judge graded all trials: its rates are known, not estimated.
                "all_trials": plain(stratified.rates(*whole.get(arm, (graded, design)), seed)),
                "gate": plain(agreement.agree_with_gate(graded, seed)),
                "gate_weighted": plain(agreement.agree_with_gate(graded, seed, design)),
            }
            for arm, graded in outcomes.items()
        },
        "agreement": [
            {
                "first": a,
                "second": b,
                **plain(agreement.agree(outcomes[a], outcomes[b], seed)),
                "weighted": plain(agreement.agree_weighted(outcomes[a], outcomes[b], design, seed)),
            }
            for a, b in pairs
        ],
        "results_by_feature": by_feature(chain.from_iterable(records.values())),
    }


def show(data: Mapping[str, Any]) -> str:
    """The tables printed at the end."""
    config, sample = data["experiment_config"], data["sample"]
    lines = [
        f"{config['model_title']}: {sum(sample['drawn'].values())} trials re-graded "
        f"({sample['drawn']['multi']} multi-attempt by {config['judge_id']}, of "
        f"{sum(sample['population'].values())} graded)",
        f"  {'over all trials':24}{'graded':>8}{'multi-attempt':>16}{'95 % two-way':>17}"
        f"{'ESR':>10}{'95 % two-way':>17}",
    ]
    for arm, entry in data["by_judge"].items():
        rates, name = entry["all_trials"], config["judge_id"] if arm == ORIGINAL else arm
        cells = "".join(
            f"{tables.percent(r['value']):>{w}}{tables.percent_range(r['two_way']):>17}"
            for r, w in ((rates["multi"], 16), (rates["esr"], 10))
        )
        lines.append(f"  {name:24}{rates['graded']:>8}{cells}")
    lines.append("")
    for pair in data["agreement"]:
        first = config["judge_id"] if pair["first"] == ORIGINAL else pair["first"]
        lines.append(
            f"  {first} and {pair['second']}, {pair['pairs']} trials:"
            f"{'as sampled':>{WIDTH - 8}}{'over all trials':>{WIDTH}}"
        )
        weighted = pair["weighted"]
        lines += [
            f"    {label:34}{_estimate_line(pair[key]):>{WIDTH}}"
            f"{_estimate_line(weighted[key]) if weighted else '-':>{WIDTH}}"
            for key, label in QUANTITIES.items()
        ]
    lines.append("")
    for arm, entry in data["by_judge"].items():
        gate, name = entry["gate_weighted"], config["judge_id"] if arm == ORIGINAL else arm
        if gate:
            lines.append(
                f"  {name} and announced restarts, over all trials: kappa "
                f"{_estimate_line(gate['multi_kappa'])}; of its multi-attempts announced "
                f"{_estimate_line(gate['announced'])}"
            )
    if config["organism"]:
        lines.append(f"  {tables.ORGANISM_NOTE}")
    return "\n".join(lines)


WIDTH = 34
"""Of a column of estimates."""

QUANTITIES = {
    "multi": "agree on multi-attempt",
    "multi_kappa": "  kappa",
    "improved": "agree on improved",
    "improved_kappa": "  kappa",
    "direction": "same direction, both multi",
    "confirmed": "first's multi-attempts confirmed",
    "pearson": "first scores, Pearson",
    "spearman": "first scores, Spearman",
    "attempts": "numbers of attempts, Pearson",
}
"""Key of an agreement and its name in tables."""


def _estimate_line(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return f"not defined, n {estimate['n']}"
    ends = estimate["two_way"]
    interval = f"[{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "[no interval]"
    return f"{estimate['value']:>6.3f} {interval}, n {estimate['n']}"
