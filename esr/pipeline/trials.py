"""Trials: making them, the only loop over them, and what is written of them.

The loop generates, has judged, and records; killed at any moment, it is resumed by repeating.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from esr.engine.base import GenerationRequest
from esr.errors import UserError
from esr.judge.base import JudgeRequest, Verdict
from esr.pipeline.context import Progress, RunContext
from esr.pipeline.schema import Selection, Threshold, TrialRecord, TrialSpec, boosted
from esr.runs import seeds
from esr.runs.plain import plain
from esr.runs.trial_data import FeatureData

ASKED_AGAIN = 2
"""How often the failed verdicts of a round are asked for again before it goes on without them."""


def at_threshold(
    context: RunContext,
    arm: str,
    selection: Selection,
    thresholds: Mapping[int, Threshold],
    n_trials: int,
) -> list[TrialSpec]:
    """The paper's trials: per latent, ``n_trials`` prompts without replacement, at its threshold.

    Latents whose calibration failed have none. Prompts and seeds depend on the run seed, the
    latent and the position alone, so that every arm replays the same trials.
    """
    specs = []
    for latent, label in selection.labels.items():
        threshold = thresholds.get(latent)
        if threshold is None or threshold.value is None:
            continue
        barred = set(selection.barred.get(latent, ()))
        allowed = [prompt for prompt in context.prompts.prompts if prompt.id not in barred]
        order = seeds.generator(context.seed, "trial prompts", latent).permutation(len(allowed))
        for index in order[:n_trials]:
            prompt = allowed[int(index)]
            trial_id = f"{latent}/{prompt.id}"
            seed = seeds.derive(context.seed, "trial", latent, prompt.id)
            sampling = context.sampling(seed)
            specs.append(boosted(arm, latent, label, threshold.value, prompt, trial_id, sampling))
    return specs


async def run_trials(
    specs: Sequence[TrialSpec],
    context: RunContext,
    *,
    description: str = "trials",
    progress: Progress | None = None,
    urgent: bool = False,
) -> list[TrialRecord]:
    """Generate and judge every spec, in any order; records come back in the order of specs.

    What the journal holds is taken from there: a generation is never made again, an answered
    verdict never paid again. Failed verdicts are asked for again, once per call.

    Args:
        specs: what to run; equal specs are refused, since they would be one trial counted twice.
        context: engine, judge and journal.
        description: of the progress bar.
        progress: a bar to share; a new one where left out.
        urgent: what comes next depends on the verdicts: no batch is waited for.

    Raises:
        ValueError: two specs are equal.
        UserError: a given prefix is too long.
        SpendLimitError: ``--max-spend`` is reached.
    """
    if len({spec.key for spec in specs}) < len(specs):
        raise ValueError("two trial specs are equal")
    check_prefixes(specs, context)
    bar = nullcontext(progress) if progress else context.progress(len(specs), description)
    with bar as shared:
        tasks = [asyncio.create_task(_run_one(spec, context, shared, urgent)) for spec in specs]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def run_round(
    specs: Sequence[TrialSpec], context: RunContext, progress: Progress | None = None
) -> list[TrialRecord]:
    """:func:`run_trials` where the next step depends on the scores: failed verdicts are asked for
    again at once.

    Args:
        specs: of the round.
        context: engine, judge and journal.
        progress: counts the trials; nothing does where left out.
    """
    silent = Progress(None, context)
    records = await run_trials(specs, context, progress=progress or silent, urgent=True)
    for _ in range(ASKED_AGAIN):
        if any(record.failure for record in records):
            records = await run_trials(specs, context, progress=silent, urgent=True)
    return records


async def _run_one(
    spec: TrialSpec, context: RunContext, progress: Progress, urgent: bool
) -> TrialRecord:
    try:
        await context.run.journal.once("generation", spec.key, lambda: _generate(spec, context))
    except UserError as refused:
        progress.step()
        return TrialRecord(spec, error=f"engine: {refused}")
    record = recorded(spec, context)
    if spec.judged and (record.verdict is None or not record.verdict.answered):
        key = context.prompts.key_of(spec.prompt_id)
        request = JudgeRequest(spec.prompt, record.response or "", spec.latent_label, key)
        verdict = await context.grade(request, urgent=urgent)
        context.run.journal.put("verdict", spec.key, verdict.to_json())
        record = recorded(spec, context)
    progress.step()
    return record


async def _generate(spec: TrialSpec, context: RunContext) -> dict[str, Any]:
    if spec.given is not None:
        text = {"token_ids": [], "text": spec.given, "finish_reason": ""}
        return {"spec": spec.to_json(), **text}
    request = GenerationRequest(
        request_id=spec.key,
        prompt_token_ids=context.chat.prompt_ids(spec.prompt),
        interventions=spec.interventions,
        sampling=spec.sampling,
        scope=spec.scope,
        prefix_token_ids=spec.prefix_token_ids,
    )
    answer = await context.generate(request)
    given = {"n_prefix": answer.n_prefix, "generated_from": answer.generated_from}
    return {
        "spec": spec.to_json(),
        "token_ids": list(answer.token_ids),
        "text": answer.text,
        "finish_reason": answer.finish_reason,
        **(given if spec.prefix_token_ids else {}),
        **({} if answer.pairing is None else {"pairing": dict(answer.pairing)}),
    }


def check_prefixes(specs: Iterable[TrialSpec], context: RunContext) -> None:
    """Refuse given prefixes that leave no room for a response, before the engine starts.

    Raises:
        UserError: prompt, prefix and the longest response exceed the context.
    """
    for spec in specs:
        if not spec.prefix_token_ids:
            continue
        n_prompt, n_prefix = len(context.chat.prompt_ids(spec.prompt)), len(spec.prefix_token_ids)
        if n_prompt + n_prefix + spec.sampling.max_tokens > context.spec.context:
            raise UserError(
                f"trial {spec.trial_id}: a prompt of {n_prompt} tokens, a given prefix of "
                f"{n_prefix} and a response of {spec.sampling.max_tokens} exceed the context",
                f"{context.spec.context} tokens together",
                "a shorter prefix, or a lower max_tokens",
            )


def recorded(spec: TrialSpec, context: RunContext) -> TrialRecord:
    """What the journal holds of a trial."""
    generation = context.run.journal.get("generation", spec.key)
    if generation is None:
        return TrialRecord(spec, error="not run")
    judged = context.run.journal.get("verdict", spec.key)
    verdict = Verdict.from_json(judged) if judged else None
    return TrialRecord(
        spec=spec,
        response=generation["text"],
        token_ids=tuple(generation["token_ids"]),
        finish_reason=generation["finish_reason"],
        verdict=verdict,
        generated_from=generation.get("generated_from", 0),
        pairing=generation.get("pairing"),
        error=_error(spec, verdict),
    )


def _error(spec: TrialSpec, verdict: Verdict | None) -> str | None:
    if not spec.judged:
        return None
    if verdict is None:
        return "not judged"
    return None if verdict.answered else f"judge: {verdict.status}"


def finished(specs: Iterable[TrialSpec], context: RunContext) -> list[TrialRecord]:
    """The records of those specs that have been generated: what a partial result shows."""
    records = (recorded(spec, context) for spec in specs)
    return [record for record in records if record.response is not None]


def by_feature(
    records: Iterable[TrialRecord],
    thresholds: Mapping[int, Threshold] | None = None,
    labels: Mapping[int, str] | None = None,
) -> list[FeatureData]:
    """``results_by_feature``: one entry per latent, in the order given.

    Args:
        records: of one or several arms.
        thresholds: calibrated latents; those without trials appear with their error.
        labels: label by latent.
    """
    entries: dict[int, FeatureData] = {}
    for latent, threshold in (thresholds or {}).items():
        entries[latent] = {
            "feature_index_in_sae": latent,
            "feature_label": (labels or {}).get(latent, ""),
            "threshold": threshold.value,
            "error": threshold.error,
            "trials": [],
            "calibration": plain(threshold),
        }
    for record in records:
        spec = record.spec
        entry = entries.setdefault(
            spec.latent,
            {
                "feature_index_in_sae": spec.latent,
                "feature_label": spec.latent_label,
                "threshold": spec.threshold,
                "error": None,
                "trials": [],
            },
        )
        entry["trials"].append(record.to_json())
    return list(entries.values())
