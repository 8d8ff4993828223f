"""What the controls say: each arm beside the parent, and the numbers that only one control has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from esr.analysis import comparison, lengths, metrics, nulls
from esr.analysis.outcomes import Outcome
from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialRecord
from esr.runs.results import iter_trials
from experiment_11_resistance_controls import matched
from experiment_11_resistance_controls.config import Config

PARTS = ("redraw", "position", "matched")
"""How the names of arms begin that are no rates of the parent's trials: of those that start over
alone, and of parts of responses."""


def outcomes_of(records: Sequence[TrialRecord]) -> dict[str, list[Outcome]]:
    """Outcomes by arm, in the order of the records."""
    found: dict[str, list[Outcome]] = {}
    for record in records:
        if record.spec.judged:
            found.setdefault(record.spec.arm, []).append(record.outcome())
    return found


def by_arm(
    records: Sequence[TrialRecord], before: Sequence[Outcome], seed: int
) -> dict[str, dict[str, Any]]:
    """Summary of each arm, of the same trials in the parent, and their comparison."""
    parent = {outcome.trial_id: outcome for outcome in before}
    entries = {}
    for arm, outcomes in outcomes_of(records).items():
        same = [parent[o.trial_id] for o in outcomes if o.trial_id in parent]
        entries[arm] = {
            "part": arm.startswith(PARTS),
            "summary": metrics.summary(outcomes, seed),
            "parent": metrics.summary(same, seed),
            "comparison": comparison.summary(outcomes, same, seed),
        }
    return entries


def of(
    config: Config, context: RunContext, records: Sequence[TrialRecord], before: Sequence[Outcome]
) -> dict[str, Any]:
    """By control; those without anything of their own are left out."""
    arms, seed = outcomes_of(records), context.seed
    found: dict[str, Any] = {}
    if redraws := _redraws(config, arms):
        found["redraw"] = nulls.same_prompt_redraw(before, redraws).entry()
    if "position-head" in arms:
        parts = arms["position-head"], arms.get("position-tail", [])
        found["position"] = nulls.position(before, _cuts(*parts)).entry()
    if {"prefill-unsteered", "prefill-steered"} <= arms.keys():
        pair = arms["prefill-unsteered"], arms["prefill-steered"]
        found["prefill"] = _prefill(*pair, before, seed)
    if matched.NATURAL + matched.CONTINUATION in arms:
        found["matched-prefix"] = _matched(arms, seed)
    names = {outcome.trial_id for outcome in before}
    trials = [t for t in iter_trials(context.replayed.results) if t.name in names]
    whole = {t.name for t in trials if t.finish_reason != "length" and not t.degraded}
    found["length"] = {
        "attempts": lengths.attempt_lengths(trials),
        "whole": metrics.summary([o for o in before if o.trial_id in whole], seed),
    }
    return found


def _redraws(config: Config, arms: Mapping[str, Sequence[Outcome]]) -> dict[str, list[Outcome]]:
    """Redraws of each trial, by its id."""
    redraws: dict[str, list[Outcome]] = {}
    for turn in range(config.redraws):
        for outcome in arms.get(f"redraw-{turn + 1}", ()):
            redraws.setdefault(outcome.trial_id, []).append(outcome)
    return redraws


def _cuts(heads: Sequence[Outcome], tails: Sequence[Outcome]) -> list[nulls.Cut]:
    after = {outcome.trial_id: outcome for outcome in tails}
    return [
        nulls.Cut(head.latent, head.prompt, _first(head), _first(after.get(head.trial_id)))
        for head in heads
    ]


def _first(outcome: Outcome | None) -> float | None:
    return outcome.first if outcome is not None and outcome.graded else None


def _prefill(
    unsteered: Sequence[Outcome],
    steered: Sequence[Outcome],
    before: Sequence[Outcome],
    seed: int,
) -> dict[str, Any]:
    """Unsteered minus steered, over all beginnings, and over those that went on to a restart."""
    multi = {outcome.trial_id for outcome in before if outcome.multi}
    single = {outcome.trial_id for outcome in before if not outcome.multi}
    groups = {
        "all": multi | single,
        "restarted in the parent": multi,
        "single in the parent": single,
    }
    return {
        name: comparison.summary(_among(unsteered, trials), _among(steered, trials), seed)
        for name, trials in groups.items()
    }


def _among(outcomes: Sequence[Outcome], trials: Collection[str]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.trial_id in trials]


def _matched(arms: Mapping[str, Sequence[Outcome]], seed: int) -> dict[str, Any]:
    """Score of what follows each beginning, and the natural one against the others."""
    after = {name: list(arms.get(name + matched.CONTINUATION, ())) for name in matched.ARMS}
    natural = after[matched.NATURAL]
    return {
        "scores": {
            name: metrics.summary(outcomes, seed)["mean_first_score"]
            for name, outcomes in after.items()
        },
        "natural_against": {
            name: comparison.differences(natural, outcomes, seed)["mean_first_score"]
            for name, outcomes in after.items()
            if name != matched.NATURAL
        },
    }
