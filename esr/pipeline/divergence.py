"""How far steering moves a model from itself, without a judge: a divergence per token.

Estimated is the Kullback-Leibler divergence of the steered from the unsteered model over the first
tokens of a response, in nats per token, along responses that the steered model draws from its own
distribution (temperature 1, no penalty)::

    D = mean over drawn tokens y_t of  log p_steered(y_t | x, y_<t) - log p_unsteered(y_t | x, y_<t)

Both log-probabilities are read from the whole text, with and without the interventions; one draw
per prompt. The same seeds serve every strength and every operator, so that differences between
them are not those of the draw.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from esr.engine.base import ReadRequest, Sampling
from esr.pipeline.context import Progress, RunContext
from esr.pipeline.reads import run_reads
from esr.pipeline.schema import Match, TrialRecord, TrialSpec
from esr.pipeline.trials import run_trials
from esr.runs import seeds
from esr.steering.interventions import Intervention

N_TOKENS = 32
"""Of a response: the first ones, where steering acts before the model has answered it."""

N_PROMPTS = 8
"""Of a measurement; each is one draw."""

STEPS = 6
"""Most measurements of a search."""

TOLERANCE = 0.1
"""Share of the target within which a search ends."""

REACH = 0.25
"""Share of the target within which it counts."""


@dataclass(frozen=True)
class Divergence:
    """A measurement.

    Attributes:
        nats: per token, the mean over prompts of the mean over tokens.
        error: standard error over prompts; None with one.
        tokens: drawn.
    """

    nats: float
    error: float | None
    tokens: int


def draws(context: RunContext, latent: int, label: str) -> list[TrialSpec]:
    """Responses to be drawn, still without interventions; prompts and seeds depend on the run seed
    and the latent alone."""
    prompts = context.prompts.prompts
    order = seeds.generator(context.seed, "divergence prompts", latent).permutation(len(prompts))
    specs = []
    for index in order[:N_PROMPTS]:
        prompt = prompts[int(index)]
        trial_id = f"divergence/{latent}/{prompt.id}"
        seed = seeds.derive(context.seed, "divergence", latent, prompt.id)
        specs.append(
            TrialSpec(
                arm="divergence",
                trial_id=trial_id,
                latent=latent,
                latent_label=label,
                threshold=0.0,
                prompt_id=prompt.id,
                prompt=prompt.text,
                interventions=(),
                sampling=Sampling(1.0, 1.0, min(N_TOKENS, context.spec.max_tokens), 1.0, seed),
                judged=False,
            )
        )
    return specs


async def measure(
    context: RunContext, latent: int, label: str, steered: tuple[Intervention, ...]
) -> Divergence:
    """The divergence of a model steered like this from itself; generations and reads are journaled.

    Raises:
        RuntimeError: the engine reads no log-probabilities.
    """
    specs = [replace(spec, interventions=steered) for spec in draws(context, latent, label)]
    records = await run_trials(specs, context, progress=Progress(None, context))
    drawn = [record for record in records if record.token_ids]
    ours = await _logprobs(context, drawn, steered)
    theirs = await _logprobs(context, drawn, ())
    by_prompt = [
        fmean(a - b for a, b in zip(one, other, strict=True))
        for one, other in zip(ours, theirs, strict=True)
    ]
    error = stdev(by_prompt) / math.sqrt(len(by_prompt)) if len(by_prompt) > 1 else None
    return Divergence(fmean(by_prompt), error, sum(len(r.token_ids) for r in drawn))


async def _logprobs(
    context: RunContext, drawn: Sequence[TrialRecord], steered: tuple[Intervention, ...]
) -> list[list[float]]:
    """Per response, the log-probability of each of its tokens."""
    requests = []
    for record in drawn:
        prompt = context.chat.prompt_ids(record.spec.prompt)
        requests.append(
            ReadRequest(
                request_id=f"{record.spec.trial_id}/{len(steered)}",
                token_ids=prompt + record.token_ids,
                interventions=steered,
                first_token=len(prompt),
                n_prompt=len(prompt),
                logprobs=True,
            )
        )
    values = []
    for read in await run_reads(requests, context, progress=Progress(None, context)):
        if read.reading is None or read.reading.logprobs is None:
            raise RuntimeError(f"no log-probabilities were read ({read.error})")
        values.append([float(value) for value in read.reading.logprobs])
    return values


async def match(
    measured: Callable[[float], Awaitable[float]], target: float, start: float, high: float
) -> Match:
    """The value at which a divergence that rises with it is ``target``, by doubling, then halving.

    Args:
        measured: value -> divergence in nats per token.
        target: nats per token, above 0.
        start: first value tried, above 0.
        high: largest value.

    A search that ends farther than :data:`REACH` from the target has failed: the value nearest to
    it would compare unlike things.
    """
    low_end, high_end, value = 0.0, math.inf, min(start, high)
    steps: list[list[float]] = []
    for _ in range(STEPS):
        nats = await measured(value)
        steps.append([value, nats])
        if abs(nats - target) <= TOLERANCE * target:
            break
        if nats < target:
            low_end = value
        else:
            high_end = value
        if high_end == math.inf and low_end >= high:
            break
        value = min(2 * value, high) if high_end == math.inf else (low_end + high_end) / 2
    best, nats = min(steps, key=lambda step: abs(step[1] - target))
    if abs(nats - target) <= REACH * target:
        return Match(best, nats, target, steps)
    error = f"divergence: {nats:.3g} nats at {best:.4g} is as near as it comes to {target:.3g}"
    return Match(None, nats, target, steps, error)
