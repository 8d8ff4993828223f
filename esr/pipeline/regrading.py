"""Recorded responses before a judge: arms of verdicts only, nothing is generated.

For other judges on the same responses, blind ones (:mod:`esr.judge.blind`) among them, and for
parts of responses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from esr.judge.base import Judge
from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.trials import run_trials


def answered(
    arm: str, trials: Sequence[tuple[TrialSpec, str]], context: RunContext
) -> list[TrialSpec]:
    """Trials of an arm whose responses are in the journal already.

    Args:
        arm: its name.
        trials: recorded trials with their responses.
        context: of this run.
    """
    specs = [replace(spec, arm=arm) for spec, _ in trials]
    journal = context.run.journal
    for spec, (_, response) in zip(specs, trials, strict=True):
        if journal.get("generation", spec.key) is None:
            generation = {"token_ids": [], "text": response, "finish_reason": ""}
            journal.put("generation", spec.key, {"spec": spec.to_json(), **generation})
    return specs


async def regrade(
    specs: Sequence[TrialSpec], judge: Judge, context: RunContext, description: str
) -> list[TrialRecord]:
    """Put trials before a judge; the context's own is back in place afterwards.

    Args:
        specs: of :func:`answered`.
        judge: who grades them; it is not closed.
        context: of this run.
        description: of the progress bar.
    """
    own, context.judge = context.judge, judge
    try:
        return await run_trials(specs, context, description=description)
    finally:
        context.judge = own
