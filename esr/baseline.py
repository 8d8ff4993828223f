"""An arm beside the parent run whose trials it replays: what ``results.json`` says of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from esr import comparison, metrics, report, results
from esr.lab import Lab
from esr.trials import TrialRecord


def against_parent(lab: Lab, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Summary of an arm, of the same trials in the parent run, and the comparison of both.

    Args:
        lab: of a run that replays its parent.
        records: of one arm, on which ``trial_id`` is the parent's.

    Returns:
        ``summary``; ``baseline``: the parent, the summary of the same trials there, and under
        ``differences`` the settings in which the two runs differ, None where they are not
        recorded; ``comparison``: see :func:`esr.comparison.summary`.
    """
    outcomes = [record.outcome() for record in records]
    before = lab.replayed.outcomes({record.spec.trial_id for record in records})
    return {
        "summary": metrics.summary(outcomes, lab.seed),
        "baseline": {
            **lab.replayed.identity(),
            "differences": lab.replayed.differences(lab.context),
            "summary": metrics.summary(before, lab.seed),
        },
        "comparison": comparison.summary(outcomes, before, lab.seed),
    }


def by_feature(lab: Lab, records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """``results_by_feature``, in which the ``threshold`` of a latent is the parent's."""
    known, labels = lab.replayed.thresholds(), lab.replayed.labels()
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
        report.summary_table(title, found["summary"], found["experiment_config"]["organism"]),
        report.comparison_table(
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
