"""Calibrating boosts: the boost at which the mean first-attempt score is 30 (paper A.1.4).

The paper's way, and the default: each latent is bisected on its own, round after round; the rounds
of many latents run together. A judge that finds no attempts does not loop: a round is tried three
times with fresh prompts and seeds, then skipped, and the record says so. ``--calibration
adaptive`` is :mod:`esr.pipeline.adaptive`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from esr.errors import JudgeError
from esr.models import Calibration
from esr.models.prompts import Prompt
from esr.pipeline import adaptive, curves
from esr.pipeline.bisection import Posterior
from esr.pipeline.constants import TARGET_SCORE, TRIES_PER_ROUND
from esr.pipeline.context import Progress, RunContext
from esr.pipeline.push import BOOST, Push
from esr.pipeline.schema import Threshold, boosted
from esr.pipeline.trials import run_round
from esr.runs import seeds
from esr.runs.entries import read_entry, write_entry
from esr.runs.paths import cache
from esr.runs.plain import json_digest, plain
from esr.steering import interventions as iv

__all__ = ["BOOST", "Push", "calibrate"]


async def calibrate(
    context: RunContext, labels: Mapping[int, str], push: Push = BOOST
) -> dict[int, Threshold]:
    """Thresholds of all latents of ``labels`` (latent -> label), in its order.

    A threshold is taken from the journal, else from the cache, else measured. The cache key
    holds everything that can change it: model, SAE, layers, engine, pairing, profile, prompts,
    judge, rubric, prior and run seed. Neither failed calibrations are cached nor those in which a
    verdict failed.

    Raises:
        JudgeError: no latent could be calibrated, and verdicts failed.
    """
    if "adaptive" in context.settings:
        return await _adaptive(context, labels, push)
    limit = asyncio.Semaphore(context.spec.in_flight)
    per_latent = context.spec.calibration.rounds * context.spec.calibration.prompts_per_round
    with context.progress(len(labels) * per_latent, "calibration") as progress:

        async def one(latent: int, label: str) -> Threshold:
            async with limit:
                return await _threshold(context, latent, label, push, progress)

        tasks = [asyncio.create_task(one(k, label)) for k, label in labels.items()]
        try:
            thresholds = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    _check(context, thresholds)
    return {threshold.latent: threshold for threshold in thresholds}


def _check(context: RunContext, thresholds: Sequence[Threshold]) -> None:
    """A judge that fails on every latent stops the run.

    Raises:
        JudgeError: no latent could be calibrated, and verdicts failed.
    """
    unjudged = sum(threshold.unjudged for threshold in thresholds)
    if unjudged and all(threshold.value is None for threshold in thresholds):
        raise JudgeError(
            f"no latent could be calibrated: {unjudged} verdicts of judge {context.judge.info.id} "
            f"failed; latent {thresholds[0].latent}: {thresholds[0].error}; next: mend it, then "
            "repeat the command to go on"
        )


async def _adaptive(
    context: RunContext, labels: Mapping[int, str], push: Push
) -> dict[int, Threshold]:
    """Thresholds of all latents together: from the journal, else the cache, else measured.

    Each leans on the others, so a cached one serves the same latents alone.
    """
    journal = context.run.journal
    together = json_digest(list(labels), 16)
    paths = {latent: _cache_file(context, latent, push, together) for latent in labels}
    found = Threshold.recorded(journal, labels, push.name)
    if not all(latent in found and found[latent].final for latent in labels):
        cached = {latent: read_entry(path, Threshold) for latent, path in paths.items()}
        found = {latent: entry for latent, entry in cached.items() if entry}
    if len(found) < len(labels):
        prompts = {latent: _allowed(context, latent) for latent in labels}
        with context.progress(len(labels) * curves.RESPONSES, "calibration") as progress:
            found = await adaptive.thresholds(context, labels, prompts, push, progress)
        if all(threshold.final for threshold in found.values()):
            for latent, threshold in found.items():
                write_entry(paths[latent], threshold)
    for latent, threshold in found.items():
        journal.put("threshold", push.part(latent), plain(threshold))
    _check(context, list(found.values()))
    return {latent: found[latent] for latent in labels}


async def _threshold(
    context: RunContext, latent: int, label: str, push: Push, progress: Progress
) -> Threshold:
    journal, key = context.run.journal, push.part(latent)
    path = _cache_file(context, latent, push)
    threshold = Threshold.recorded(journal, [latent], push.name).get(latent)
    if threshold is None or not threshold.final:
        threshold = read_entry(path, Threshold)
    if threshold is not None:
        settings = context.spec.calibration
        progress.step(settings.rounds * settings.prompts_per_round)
    else:
        threshold = await _bisect(context, latent, label, push, progress)
        if threshold.final:
            write_entry(path, threshold)
    # What is not final is recorded for the results, and measured again when repeated.
    journal.put("threshold", key, plain(threshold))
    return threshold


def _cache_file(context: RunContext, latent: int, push: Push, together: str = "") -> Path:
    key = {
        "context": context.settings,
        "calibration": asdict(context.spec.calibration),
        "seed": context.seed,
        **({"together": together} if together else {}),
        **({"barred": sorted(barred)} if (barred := _barred(context, latent)) else {}),
    }
    if push.name:
        # What it does at one value says what it is: directions are named by their content.
        middle = (context.spec.calibration.low + context.spec.calibration.high) / 2
        key["push"] = [push.name, iv.to_json(push.of(latent, middle))]
    return cache() / "thresholds" / json_digest(key, 16) / f"{latent}.json"


async def _bisect(
    context: RunContext, latent: int, label: str, push: Push, progress: Progress
) -> Threshold:
    settings = context.spec.calibration
    posterior = Posterior.prior(settings.prior_mean, settings.prior_sd, settings.low, settings.high)
    scores: list[list[float | None]] = []
    unjudged: list[str] = []
    for number in range(settings.rounds):
        boost = posterior.median()
        score, failures = await _round_score(context, latent, label, push, boost, number, progress)
        unjudged += failures
        if score is not None:
            posterior = posterior.update(boost, score, TARGET_SCORE)
        scores.append([boost, score])
    scored = sum(score is not None for _, score in scores)
    low, high = posterior.interval()
    failed = scored * 2 < settings.rounds
    reason = f"; {len(unjudged)} verdicts failed, {unjudged[-1]}" if unjudged else ""
    error = f"calibration: {scored} of {settings.rounds} rounds scored{reason}"
    return Threshold(
        latent=latent,
        value=None if failed else round(posterior.median(), 2),
        low=low,
        high=high,
        rounds=scored,
        skipped=settings.rounds - scored,
        error=error if failed else None,
        scores=scores,
        unjudged=len(unjudged),
    )


async def _round_score(
    context: RunContext,
    latent: int,
    label: str,
    push: Push,
    boost: float,
    number: int,
    progress: Progress,
) -> tuple[float | None, list[str]]:
    """A round: its mean first-attempt score, 0 to 100, and why verdicts of it failed.

    The score is None where no try gave one.
    """
    settings = context.spec.calibration
    failures: list[str] = []
    steered, part = push.of(latent, boost), push.part(latent)
    for attempt in range(TRIES_PER_ROUND):
        plain_specs = [
            boosted(
                "calibration",
                latent,
                label,
                boost,
                context.prompts.prompts[index],
                f"calibration/{part}/{number}/{attempt}/{position}",
                context.sampling(
                    seeds.derive(context.seed, "calibration", latent, number, attempt, position),
                    settings.max_tokens,
                ),
            )
            for position, index in enumerate(_pick(context, settings, latent, number, attempt))
        ]
        specs = [replace(spec, interventions=steered) for spec in plain_specs]
        records = await run_round(specs, context, progress if attempt == 0 else None)
        failures += [record.failure for record in records if record.failure]
        scores = [s for r in records if r.verdict and (s := r.verdict.first_score) is not None]
        if scores:
            return sum(scores) / len(scores), failures
    return None, failures


def _pick(
    context: RunContext, settings: Calibration, latent: int, number: int, attempt: int
) -> list[int]:
    """Indices of the prompts of one round: without replacement within the round."""
    places = {prompt.id: i for i, prompt in enumerate(context.prompts.prompts)}
    allowed = [places[prompt.id] for prompt in _allowed(context, latent)]
    rng = seeds.generator(context.seed, "calibration prompts", latent, number, attempt)
    count = min(settings.prompts_per_round, len(allowed))
    return [allowed[int(i)] for i in rng.choice(len(allowed), count, replace=False)]


def _allowed(context: RunContext, latent: int) -> list[Prompt]:
    barred = _barred(context, latent)
    return [prompt for prompt in context.prompts.prompts if prompt.id not in barred]


def _barred(context: RunContext, latent: int) -> list[str]:
    """Ids of the prompts that the run's choice of latents does not use with this one."""
    for _, selection in context.run.journal.values("selection"):
        # Keys are text in a journal that was read back.
        barred = selection["barred"]
        return list(barred.get(latent) or barred.get(str(latent), ()))
    return []
