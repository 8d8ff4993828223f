"""An arm beside the parent run whose trials it replays: what ``results.json`` says of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esr.analysis import comparison, metrics, tables
from esr.pipeline import results
from esr.pipeline.context import RunContext
from esr.pipeline.results_schema import FeatureData
from esr.pipeline.schema import TrialRecord


def against_parent(context: RunContext, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Summary of an arm, of the same trials in the parent run, and the comparison of both.

    Args:
        context: of a run that replays its parent.
        records: of one arm, on which ``trial_id`` is the parent's.

    Returns:
        ``summary``; ``baseline``: the parent, the summary of the same trials there, and under
        ``differences`` the settings in which the two runs differ, None where they are not
        recorded; ``comparison``: see :func:`esr.analysis.comparison.summary`.
    """
    outcomes = [record.outcome() for record in records]
    before = context.replayed.outcomes({record.spec.trial_id for record in records})
    return {
        "summary": metrics.summary(outcomes, context.seed),
        "baseline": {
            **context.replayed.identity(),
            "differences": context.replayed.differences(context.settings),
            "summary": metrics.summary(before, context.seed),
        },
        "comparison": comparison.summary(outcomes, before, context.seed),
    }


def by_feature(context: RunContext, records: Sequence[TrialRecord]) -> list[FeatureData]:
    """``results_by_feature``, in which the ``threshold`` of a latent is the parent's."""
    known, labels = context.replayed.thresholds(), context.replayed.labels()
    used = dict.fromkeys(record.spec.latent for record in records)
    return results.by_feature(records, {k: known[k] for k in used if k in known}, labels)


def shown(title: str, found: Mapping[str, Any]) -> str:
    """Tables for the terminal: the arm, and the arm beside its baseline.

    Args:
        title: of the arm.
        found: results with what :func:`against_parent` gives.
    """
    baseline = found["baseline"]
    named = f"run {baseline['run_id']}" if baseline["run_id"] else f"file {baseline['digest']}"
    lines = [
        tables.summary_table(title, found["summary"], found["experiment_config"]["organism"]),
        tables.comparison_table(
            f"against the same trials of the parent, {named}",
            found["summary"],
            baseline["summary"],
            found["comparison"],
        ),
    ]
    if baseline["differences"] is None:
        lines.append("  The parent's settings are not recorded: they may differ from this run's.")
    elif baseline["differences"]:
        lines.append(f"  The runs also differ in: {', '.join(baseline['differences'])}.")
    return "\n".join(lines)
