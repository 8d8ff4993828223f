"""Experiment 10: the trials of experiment 1 with random sets clamped, and what they came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from esr.analysis import comparison, metrics, tables
from esr.analysis.outcomes import Outcome, outcomes_from_results
from esr.errors import UserError
from esr.models import ModelSpec
from esr.pipeline.arms import Arm, Baseline, arm_results, arm_tables, by_feature, replayed_trials
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.stages import Stage, planned_trials
from esr.runs.folder import find_runs, read_run
from esr.runs.results import read_results, results_file
from esr.runs.same_settings import differing_settings
from esr.runs.summary import ArmEntry, RankEntry
from experiment_10_random_latent_control import sets
from experiment_10_random_latent_control.config import Config

ABLATION = "experiment_03_off_topic_detectors"
SHOWN = 10
"""More sets than this are not shown one by one in the terminal."""

PARTNERED = "partnered-detectors"
"""Arm of the detectors that have a partner in every set."""


def stages(config: Config, spec: ModelSpec) -> list[Stage]:
    """Reads for matching, and one response per trial and set."""
    n = planned_trials(config, spec)
    reads = min(n, config.match_responses) if config.matching == "matched" else 0
    return [
        Stage("activity of latents", 0, 0, judged=False, reads=reads),
        Stage(f"{config.n_sets} random sets", n * config.n_sets, spec.max_tokens, compared=2 * n),
        Stage(
            "partnered detectors",
            n if config.matching == "matched" else 0,
            spec.max_tokens,
            note="The last arm is left out where every detector has a partner in every set.",
        ),
    ]


def random_arms(chosen: Mapping[str, Any]) -> list[Arm]:
    """One arm per set; a set that the caliper left empty is none."""
    numbered = enumerate(chosen["sets"], start=1)
    return [Arm(f"random-{number}", tuple(latents)) for number, latents in numbered if latents]


def arms(config: Config, chosen: Mapping[str, Any]) -> list[Arm]:
    """The sets and, where some detectors have no partner, the detectors that do.

    The strongest detectors are the first to lack one. A comparison of the whole set with random
    latents then rests on those that nothing was matched to; this arm is the fair one.
    """
    conditions = random_arms(chosen)
    if "pairs" in chosen["matching"]:
        partnered = [{target for target, _ in pairs} for pairs in chosen["matching"]["pairs"]]
        detectors = config.detector_set.latents
        matched = tuple(k for k in detectors if all(k in there for there in partnered))
        if matched and len(matched) < len(detectors):
            conditions.append(Arm(PARTNERED, matched))
    return conditions


async def specs(config: Config, context: RunContext) -> list[TrialSpec]:
    """The parent's trials once per set."""
    config.detector_set.check(context)
    chosen = await sets.choose(config, context)
    conditions = arms(config, chosen)
    if not random_arms(chosen):
        raise UserError(
            f"no detector has a match within {config.caliper} sd",
            "a wider caliper",
            "--caliper 1, or --matching uniform",
        )
    replayed = replayed_trials(config, context, "random")
    return [arm.change(spec) for arm in conditions for spec in replayed]


def outcome_results(
    config: Config, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json`` of experiment 10."""
    chosen = context.run.journal.get("sets", config.matching) or {"sets": [], "matching": {}}
    replayed = replayed_trials(config, context, "random")
    baseline = Baseline.of_parent(context.replayed, replayed)
    detectors = config.detector_set
    partnered = [r.outcome() for r in records if r.spec.arm == PARTNERED]
    outcomes = [r.outcome() for r in records if r.spec.arm != PARTNERED]
    by_arm = arm_results(arms(config, chosen), records, baseline, context.seed)
    ablation = _ablation(config, context, baseline.outcomes, outcomes)
    return {
        "experiment_config": context.experiment_config(),
        "detectors": {"latents": list(detectors.latents), "method": detectors.method},
        "random_sets": chosen["sets"],
        "matching": chosen["matching"],
        "parent": context.replayed.identity(),
        "differences": context.replayed.differences(context.settings),
        "baseline": metrics.summary(baseline.outcomes, context.seed),
        "arms": by_arm,
        "rank": _ranks(by_arm, ablation),
        "pooled": {
            "summary": metrics.summary(outcomes, context.seed),
            "comparison": comparison.differences(outcomes, baseline.outcomes, context.seed),
        },
        # Several sets share a trial, so no McNemar; intervals of the pooled rates count it once.
        "partnered_against_random": (
            comparison.differences(partnered, outcomes, context.seed)
            if partnered and outcomes
            else None
        ),
        "ablation": ablation,
        "results_by_feature": by_feature(context, records),
    }


def _ranks(
    by_arm: Mapping[str, ArmEntry], ablation: Mapping[str, Any] | None
) -> dict[str, RankEntry]:
    """Where the detectors stand among the sets, by multi-attempt rate; what there is of both."""
    sets = [arm["summary"] for name, arm in by_arm.items() if name != PARTNERED]
    detectors = {
        "partnered detectors": by_arm[PARTNERED]["summary"] if PARTNERED in by_arm else None,
        "all detectors": ablation["summary"] if ablation else None,
    }
    rates = [rate for s in sets if (rate := s["multi_attempt_rate"]["rate"]) is not None]
    found = {}
    for name, summary in detectors.items():
        rate = summary["multi_attempt_rate"]["rate"] if summary else None
        if rate is not None and rates:
            as_low = sum(other <= rate for other in rates)
            p = (1 + as_low) / (1 + len(rates))
            found[name] = RankEntry(sets=len(rates), as_low=as_low, rate=rate, p_value=p)
    return found


def _ablation(
    config: Config, context: RunContext, baseline: Sequence[Outcome], random: Sequence[Outcome]
) -> dict[str, Any] | None:
    """The detectors' own ablation of the same trials, from experiment 3; None before it was run."""
    for path in find_runs(Path(config.output), ABLATION, context.spec.key):
        run = read_run(path)
        if run.status != "complete" or not results_file(path).is_file():
            continue
        if differing_settings(run, context.run.metadata):
            continue
        ablation = read_results(path)
        same = ablation.parent == context.replayed.identity() and set(
            ablation.raw.get("ablated_latents") or ()
        ) == set(config.detector_set.latents)
        if (
            not same
            or "ablation" not in (ablation.arms or {})
            or ablation.raw["experiment_config"]["prompts"]
        ):
            continue
        wanted = {outcome.trial_id for outcome in baseline}
        outcomes = [o for o in outcomes_from_results(ablation, "ablation") if o.trial_id in wanted]
        return {
            "run_id": ablation.experiment_config.run_id,
            "summary": metrics.summary(outcomes, context.seed),
            "comparison": comparison.summary(outcomes, baseline, context.seed),
            "against_random": comparison.differences(outcomes, random, context.seed),
        }
    return None


def show(data: Mapping[str, Any]) -> str:
    """Baseline, detectors and random sets side by side."""
    config, match = data["experiment_config"], data["matching"]
    lines = [
        f"Random latents instead of {len(data['detectors']['latents'])} detectors "
        f"({data['detectors']['method']}) of {config['model_title']}, judge {config['judge_id']}"
    ]
    lines += _matching_lines(data)
    many = len(data["random_sets"]) > SHOWN
    few = {name: arm for name, arm in data["arms"].items() if name == PARTNERED or not many}
    lines += arm_tables({**data, "arms": few})
    lines += _pooled_lines(data)
    lines += [
        f"  {name}: multi-attempt {tables.percent(entry['rate'])}; {entry['as_low']} of "
        f"{entry['sets']} sets are as low, rank p {entry['p_value']:.2g} (at best "
        f"{1 / (1 + entry['sets']):.2g})"
        for name, entry in data.get("rank", {}).items()
    ]
    if config["organism"]:
        lines.append(f"  {tables.ORGANISM_NOTE}")
    if match.get("method") == "uniform":
        lines.append("  Sets drawn uniformly: they need not be as active as the detectors.")
    return "\n".join(lines)


def _pooled_lines(data: Mapping[str, Any]) -> list[str]:
    """All sets against the baseline, and the detectors against all sets."""
    pooled, ablation = data["pooled"], data["ablation"]
    lines = [
        tables.comparison_table(
            "all sets", pooled["summary"], data["baseline"], pooled["comparison"]
        )
    ]
    if data["partnered_against_random"]:
        lines.append(
            tables.comparison_table(
                "detectors with a partner in every set (here) against all random sets (baseline)",
                data["arms"][PARTNERED]["summary"],
                pooled["summary"],
                data["partnered_against_random"],
            )
        )
    if ablation is None:
        model = data["experiment_config"]["model"]
        lines.append(
            "  no ablation of these detectors in these trials yet: "
            f"python -m {ABLATION} ablate {model}, then analyze"
        )
    else:
        lines.append(
            tables.comparison_table(
                "all detectors (here) against all random sets (baseline)",
                ablation["summary"],
                pooled["summary"],
                ablation["against_random"],
            )
        )
    return lines


def _matching_lines(data: Mapping[str, Any]) -> list[str]:
    match = data["matching"]
    lines = []
    if match.get("dead_detectors"):
        lines.append(
            f"  {len(match['dead_detectors'])} detectors are never active in the baseline "
            "responses: nothing to match, clamping them changes nothing"
        )
    for number, quality in enumerate(match.get("quality") or [], start=1):
        line = f"  set {number}: {quality['matched']} of {quality['targets']} matched"
        if quality["matched"]:
            parts = [f"{name} {value:+.2f}" for name, value in quality["mean_difference"].items()]
            line += (
                f"; mean difference in sd: {', '.join(parts)}; "
                f"largest distance {quality['largest_distance']:.2f}"
            )
        lines.append(line)
    return lines


EXPERIMENT = Experiment(
    "experiment_10_random_latent_control",
    Config,
    stages,
    specs,
    outcome_results,
    show,
    command="experiment_10_random_latent_control run-random",
)
