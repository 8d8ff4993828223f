"""``--calibration adaptive``: thresholds from curves that lean on each other, one response a round.

Ours, not the paper's. In every round each latent that is not done gets one response, at the boost
from which most is expected to be learned of its threshold; when all are judged, the scores of the
round enter the curves of all latents (:mod:`esr.pipeline.curves`). So the boosts of a round depend
on completed rounds alone, and on nothing that differs between two runs of one command. A latent
is done when the expected error of its mean score is small enough, or its responses are spent.

Prompts of a latent are drawn without replacement until all were used. A response without a score
is tried again with the next prompt and another seed; a round in which no try gave one says nothing,
and a latent of which fewer than half of the rounds were scored has failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from esr.models.prompts import Prompt
from esr.pipeline import curves
from esr.pipeline.constants import TARGET_SCORE, TRIES_PER_ROUND
from esr.pipeline.context import Progress, RunContext
from esr.pipeline.curves import LEAST, PRECISION, RESPONSES, Curves
from esr.pipeline.push import Push
from esr.pipeline.schema import Threshold, TrialSpec, boosted
from esr.pipeline.trials import run_round
from esr.runs import seeds


@dataclass
class _Latent:
    """One latent so far; ``scores`` holds the boost and the score of each round."""

    latent: int
    label: str
    prompts: list[Prompt]
    scores: list[list[float | None]] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    asked: int = 0

    @property
    def scored(self) -> int:
        return sum(score is not None for _, score in self.scores)


async def thresholds(
    context: RunContext,
    labels: Mapping[int, str],
    prompts: Mapping[int, Sequence[Prompt]],
    push: Push,
    progress: Progress,
) -> dict[int, Threshold]:
    """Thresholds of all latents of ``labels`` together.

    Args:
        context: engine, judge and journal.
        labels: latent -> label.
        prompts: latent -> the prompts it may be used with.
        push: what is calibrated.
        progress: counts responses.
    """
    latents = [_Latent(k, label, _order(context, k, prompts[k])) for k, label in labels.items()]
    settings = context.spec.calibration
    fitted = Curves(
        len(latents),
        mean=settings.prior_mean,
        sd=settings.prior_sd,
        low=settings.low,
        high=settings.high,
        target=TARGET_SCORE,
    )
    for number in range(RESPONSES):
        errors = [threshold.error for threshold in fitted.thresholds()]
        rows = [row for row in range(len(latents)) if number < LEAST or errors[row] > PRECISION]
        if not rows:
            break
        boosts = [round(boost, 2) for boost in fitted.next_boosts(rows)]
        await _round(
            context, push, number, [(latents[r], b) for r, b in zip(rows, boosts, strict=True)]
        )
        progress.step(len(rows))
        seen = [(r, b, latents[r].scores[-1][1]) for r, b in zip(rows, boosts, strict=True)]
        told = [(r, b, score) for r, b, score in seen if score is not None]
        fitted.observe([r for r, _, _ in told], [b for _, b, _ in told], [s for _, _, s in told])
    results = fitted.thresholds()
    return {one.latent: _threshold(one, found) for one, found in zip(latents, results, strict=True)}


def _order(context: RunContext, latent: int, prompts: Sequence[Prompt]) -> list[Prompt]:
    rng = seeds.generator(context.seed, "adaptive prompts", latent)
    return [prompts[int(index)] for index in rng.permutation(len(prompts))]


async def _round(
    context: RunContext, push: Push, number: int, asked: Sequence[tuple[_Latent, float]]
) -> None:
    """One response of each latent, and further ones where there was no score."""
    waiting = list(asked)
    for attempt in range(TRIES_PER_ROUND):
        specs = [_spec(context, push, one, boost, number, attempt) for one, boost in waiting]
        records = await run_round(specs, context)
        missing = []
        for (one, boost), record in zip(waiting, records, strict=True):
            if record.failure:
                one.unjudged.append(record.failure)
            score = record.verdict.first_score if record.verdict else None
            if score is None:
                missing.append((one, boost))
            else:
                one.scores.append([boost, score])
        waiting = missing
        if not waiting:
            return
    for one, boost in waiting:
        one.scores.append([boost, None])


def _spec(
    context: RunContext, push: Push, one: _Latent, boost: float, number: int, attempt: int
) -> TrialSpec:
    prompt = one.prompts[one.asked % len(one.prompts)]
    one.asked += 1
    seed = seeds.derive(context.seed, "adaptive", one.latent, number, attempt)
    spec = boosted(
        "calibration",
        one.latent,
        one.label,
        boost,
        prompt,
        f"adaptive/{push.part(one.latent)}/{number}/{attempt}",
        context.sampling(seed, context.spec.calibration.max_tokens),
    )
    return replace(spec, interventions=push.of(one.latent, boost))


def _threshold(one: _Latent, found: curves.Fitted) -> Threshold:
    failed = one.scored * 2 < len(one.scores)
    reason = f"; {len(one.unjudged)} verdicts failed, {one.unjudged[-1]}" if one.unjudged else ""
    error = f"calibration: {one.scored} of {len(one.scores)} rounds scored{reason}"
    return Threshold(
        latent=one.latent,
        value=None if failed else round(found.value, 2),
        low=found.low,
        high=found.high,
        rounds=one.scored,
        skipped=len(one.scores) - one.scored,
        error=error if failed else None,
        scores=one.scores,
        unjudged=len(one.unjudged),
        method="adaptive",
        expected_error=found.error,
    )
