"""Calibrating boosts: the boost at which the mean first-attempt score is 30 (paper A.1.4).

Each latent is bisected on its own, round after round; the rounds of many latents run
together. A judge that finds no attempts does not loop: a round is tried three times with
fresh prompts and seeds, then skipped, and the record says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from esr import seeds
from esr.bisection import Posterior
from esr.lab import Lab, Progress
from esr.models import Calibration
from esr.paths import cache
from esr.runs import write_json
from esr.trials import boosted, run_trials

TARGET_SCORE = 30.0
"""Mean first-attempt score at the threshold (paper A.1.4)."""

TRIES_PER_ROUND = 3
"""How often a round without any scored response is tried before it is skipped."""


@dataclass(frozen=True)
class Threshold:
    """A calibrated latent.

    Attributes:
        latent: id in the dictionary.
        value: posterior median, rounded to 2 decimals; None where calibration failed.
        low: lower end of the central 95 % of the posterior.
        high: upper end.
        rounds: rounds that gave a score.
        skipped: rounds without any scored response after all tries.
        error: one line where ``value`` is None.
    """

    latent: int
    value: float | None
    low: float
    high: float
    rounds: int
    skipped: int
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data for the journal, the cache and ``results.json``."""
        return asdict(self)


async def calibrate(lab: Lab, labels: Mapping[int, str]) -> dict[int, Threshold]:
    """Thresholds of all latents of ``labels`` (latent -> label), in its order.

    A threshold is taken from the journal, else from the cache, else measured. The cache key
    holds everything that can change it: model, SAE, layers, engine, pairing, profile, prompts,
    judge, rubric, prior and run seed. Failed calibrations are not cached.
    """
    limit = asyncio.Semaphore(lab.spec.in_flight)
    per_latent = lab.spec.calibration.rounds * lab.spec.calibration.prompts_per_round
    with lab.progress(len(labels) * per_latent, "calibration") as progress:

        async def one(latent: int, label: str) -> Threshold:
            async with limit:
                return await _threshold(lab, latent, label, progress)

        tasks = [asyncio.create_task(one(k, label)) for k, label in labels.items()]
        try:
            found = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return {threshold.latent: threshold for threshold in found}


async def _threshold(lab: Lab, latent: int, label: str, progress: Progress) -> Threshold:
    known = known_threshold(lab, latent)
    if known is not None:
        settings = lab.spec.calibration
        progress.step(settings.rounds * settings.prompts_per_round)
    else:
        known = await _bisect(lab, latent, label, progress)
        if known.value is not None:
            path = _cache_file(lab, latent)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, known.to_json())
    if known.value is not None:
        lab.run.journal.put("threshold", str(latent), known.to_json())
    return known


def known_threshold(lab: Lab, latent: int) -> Threshold | None:
    """The threshold in the journal or the cache; None where it has to be measured."""
    data = lab.run.journal.get("threshold", str(latent))
    path = _cache_file(lab, latent)
    if data is None and path.is_file():
        data = json.loads(path.read_text(encoding="utf-8"))
    return Threshold(**data) if data else None


def _cache_file(lab: Lab, latent: int) -> Path:
    key = {"context": lab.context, "calibration": asdict(lab.spec.calibration), "seed": lab.seed}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return cache() / "thresholds" / digest[:16] / f"{latent}.json"


async def _bisect(lab: Lab, latent: int, label: str, progress: Progress) -> Threshold:
    settings = lab.spec.calibration
    posterior = Posterior.prior(settings.prior_mean, settings.prior_sd, settings.low, settings.high)
    scored = 0
    for number in range(settings.rounds):
        boost = posterior.median()
        score = await _round_score(lab, latent, label, boost, number, progress)
        if score is not None:
            posterior = posterior.update(boost, score, TARGET_SCORE)
            scored += 1
    low, high = posterior.interval()
    failed = scored * 2 < settings.rounds
    return Threshold(
        latent=latent,
        value=None if failed else round(posterior.median(), 2),
        low=low,
        high=high,
        rounds=scored,
        skipped=settings.rounds - scored,
        error=f"calibration: {scored} of {settings.rounds} rounds scored" if failed else None,
    )


async def _round_score(
    lab: Lab, latent: int, label: str, boost: float, number: int, progress: Progress
) -> float | None:
    """Mean first-attempt score of one round, 0 to 100; None where no try gave a score."""
    settings = lab.spec.calibration
    for attempt in range(TRIES_PER_ROUND):
        specs = [
            boosted(
                lab,
                "calibration",
                latent,
                label,
                boost,
                lab.prompts.prompts[index],
                trial_id=f"calibration/{latent}/{number}/{attempt}/{position}",
                seed=seeds.derive(lab.seed, "calibration", latent, number, attempt, position),
                max_tokens=settings.max_tokens,
            )
            for position, index in enumerate(_pick(lab, settings, latent, number, attempt))
        ]
        bar = progress if attempt == 0 else None
        records = await run_trials(specs, lab, progress=bar, urgent=True)
        scores = [s for r in records if r.verdict and (s := r.verdict.first_score) is not None]
        if scores:
            return sum(scores) / len(scores)
    return None


def _pick(lab: Lab, settings: Calibration, latent: int, number: int, attempt: int) -> list[int]:
    """Indices of the prompts of one round: without replacement within the round."""
    rng = seeds.generator(lab.seed, "calibration prompts", latent, number, attempt)
    count = min(settings.prompts_per_round, len(lab.prompts.prompts))
    return [int(i) for i in rng.choice(len(lab.prompts.prompts), count, replace=False)]
