"""Which latents stand in for the detectors.

Activity is measured over the baseline of the comparison: responses of the replayed run, fed with
their boost on. Over unsteered answers it could not be: a strict detector is silent there by
definition, and nothing could be matched to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esr.analysis import matching
from esr.engine.base import ReadRequest
from esr.errors import UserError
from esr.pipeline.arms import Baseline
from esr.pipeline.context import RunContext
from esr.pipeline.latents import pooled
from esr.pipeline.reads import ReadRecord, run_reads
from esr.runs import seeds
from experiment_10_random_latent_control.config import Config

FEATURES = ("log10 frequency", "log10 magnitude when active")


async def choose(config: Config, context: RunContext) -> dict[str, Any]:
    """The sets and how well they fit, from the journal or made now.

    Returns:
        ``sets``, lists of latents; ``matching``, how good they are.

    Raises:
        UserError: nothing to match, or no latents left to draw.
    """

    async def compute() -> dict[str, Any]:
        if config.matching == "uniform":
            return _uniform(config, context)
        return _matched(config, context, await _activity(config, context))

    sets: dict[str, Any] = await context.run.journal.once("sets", config.matching, compute)
    return sets


def _uniform(config: Config, context: RunContext) -> dict[str, Any]:
    detectors = config.detector_set.latents
    pool = sorted(set(range(context.spec.d_sae)) - set(detectors))
    _enough(len(pool), len(detectors))
    sets = []
    for number in range(config.n_sets):
        rng = seeds.generator(context.seed, "uniform control", number)
        drawn = rng.choice(pool, size=len(detectors), replace=False)
        sets.append(sorted(int(k) for k in drawn))
    return {"sets": sets, "matching": {"method": "uniform", "candidates": len(pool)}}


def _matched(config: Config, context: RunContext, activity: NDArray[np.float64]) -> dict[str, Any]:
    """``activity``: [d_sae, 2] frequency and mean magnitude when active."""
    detectors = config.detector_set.latents
    alive = activity[:, 0] > 0
    dead = [k for k in detectors if not alive[k]]
    targets = [k for k in detectors if alive[k]]
    barred = {*detectors, *context.replayed.thresholds()}
    pool = np.array([k for k in np.flatnonzero(alive) if int(k) not in barred], dtype=np.int64)
    _enough(len(pool), max(1, len(targets)))
    features = np.log10(np.where(alive[:, None], activity, 1.0))
    candidates = matching.standardised(features[pool], features[pool])
    wanted = matching.standardised(features[targets], features[pool])
    matches = matching.match(wanted, candidates, config.n_sets, config.caliper)
    dealt = matching.deal(matches, seeds.generator(context.seed, "matched control"))
    return {
        "sets": [sorted(int(pool[i]) for i in chosen if i >= 0) for chosen in dealt],
        "matching": {
            "method": "matched",
            "candidates": len(pool),
            "caliper": config.caliper,
            "dead_detectors": dead,
            "quality": [matching.quality(wanted, candidates, c, FEATURES) for c in dealt],
            "detectors": {str(k): activity[k].tolist() for k in targets},
            "pairs": [
                [[targets[t], int(pool[i])] for t, i in enumerate(chosen) if i >= 0]
                for chosen in dealt
            ],
        },
    }


def _enough(there: int, wanted: int) -> None:
    if there < wanted:
        raise UserError(
            f"{there} latents are left to draw {wanted} from",
            "more latents than detectors",
            "fewer detectors, or --matching uniform",
        )


async def _activity(config: Config, context: RunContext) -> NDArray[np.float64]:
    specs = list(
        context.replayed.specs(context.prompts, context.sampling, config.n_latents, config.n_trials)
    )
    order = seeds.generator(context.seed, "responses for matching").permutation(len(specs))
    every = list(context.replayed.specs(context.prompts, context.sampling))
    texts = Baseline.of_parent(context.replayed, every).responses
    requests = []
    for index in sorted(order[: config.match_responses]):
        spec = specs[index]
        prompt = context.chat.prompt_ids(spec.prompt)
        response, _ = context.chat.response_ids(texts[spec.trial_id])
        if response:
            requests.append(
                ReadRequest(
                    f"activity/{spec.trial_id}",
                    prompt + response,
                    interventions=spec.interventions,
                    first_token=len(prompt),
                )
            )
    return activity_of(await run_reads(requests, context, description="activity of latents"))


def activity_of(read: Sequence[ReadRecord]) -> NDArray[np.float64]:
    """Frequency and mean magnitude when active over all tokens read: [d_sae, 2].

    Raises:
        UserError: nothing could be read.
    """
    readings = [pooled(record.reading.pooled) for record in read if record.reading]
    if not readings:
        raise UserError(
            "no response of the replayed run could be read",
            "a run with responses",
            "name another with --from-results",
        )
    tokens = np.array([r.n_tokens for r in readings], dtype=float)
    share = tokens / tokens.sum()
    frequency = share @ np.stack([r.frequency.numpy() for r in readings]).astype(float)
    mean = share @ np.stack([r.mean.numpy() for r in readings]).astype(float)
    magnitude = np.divide(mean, frequency, out=np.zeros_like(mean), where=frequency > 0)
    return np.stack([frequency, magnitude], axis=1)
