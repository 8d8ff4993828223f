"""The value of every operator and latent at which two effects are equal: score, and divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from esr.pipeline import divergence
from esr.pipeline.calibration import calibrate
from esr.pipeline.context import RunContext
from esr.pipeline.divergence import Divergence
from esr.pipeline.schema import Match, Threshold
from esr.runs.plain import plain, restore
from experiment_12_steering_operators.config import Calibration
from experiment_12_steering_operators.variants import Concepts, Variant


@dataclass
class Values:
    """Of one variant under one calibration.

    Attributes:
        variant: the operator.
        calibration: what is equal.
        by_latent: latent -> value.
        failed: latent -> why it has none.
        divergence: latent -> measured at its value.
    """

    variant: Variant
    calibration: Calibration
    by_latent: dict[int, float] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    divergence: dict[int, Divergence] = field(default_factory=dict)

    @property
    def arm(self) -> str:
        """Name of the trials."""
        return f"{self.calibration}-{self.variant.name}"


async def equal_score(
    context: RunContext, concepts: Concepts, variant: Variant, thresholds: Mapping[int, Threshold]
) -> Values:
    """Bisected to a first-attempt score of 30, as experiment 1 does; the parent's own for it."""
    values = Values(variant, "score", failed=concepts.unable(variant))
    if variant.is_parent(concepts.scope):
        found: Mapping[int, Threshold] = thresholds
    else:
        labels = {k: label for k, label in concepts.labels.items() if k not in values.failed}
        found = await calibrate(context, labels, concepts.push(variant)) if labels else {}
    for latent, threshold in found.items():
        if latent not in concepts.labels:
            continue
        if threshold.value is None:
            values.failed[latent] = threshold.error or "calibration failed"
        elif threshold.value >= AT_BOUND * (high := largest(context, concepts, variant, latent)):
            values.failed[latent] = f"the score stays above 30 up to the largest value {high:.4g}"
        else:
            values.by_latent[latent] = threshold.value
    for latent, value in values.by_latent.items():
        values.divergence[latent] = await measured(context, concepts, variant, latent, value)
    return values


AT_BOUND = 0.95
"""Share of the largest value from which on a threshold is none: the search has run into its end."""


async def equal_divergence(
    context: RunContext,
    concepts: Concepts,
    variant: Variant,
    targets: Mapping[int, float],
    starts: Mapping[int, float],
) -> Values:
    """Matched, latent by latent, to the divergence of the parent's boost."""
    values = Values(variant, "kl", failed=concepts.unable(variant))
    for latent in concepts.labels:
        if latent in values.failed:
            continue
        if latent not in targets:
            values.failed[latent] = "the parent has no threshold"
            continue
        found = await _matched(context, concepts, variant, latent, targets[latent], starts[latent])
        if found.value is None:
            values.failed[latent] = found.error or "no match"
            continue
        values.by_latent[latent] = found.value
        values.divergence[latent] = await measured(context, concepts, variant, latent, found.value)
    return values


async def _matched(
    context: RunContext,
    concepts: Concepts,
    variant: Variant,
    latent: int,
    target: float,
    start: float,
) -> Match:
    async def nats(value: float) -> float:
        return (await measured(context, concepts, variant, latent, value)).nats

    async def search() -> dict[str, object]:
        high = largest(context, concepts, variant, latent)
        found = await divergence.match(nats, target, start, high)
        return dict(plain(found))

    data = await context.run.journal.once("match", f"{variant.name}/{latent}", search)
    return restore(Match, data)


def largest(context: RunContext, concepts: Concepts, variant: Variant, latent: int) -> float:
    """The largest value that a search may come to: of the model's calibration, and for a rotation
    half a turn."""
    return min(context.spec.calibration.high, concepts.half_turn(variant, latent))


async def measured(
    context: RunContext, concepts: Concepts, variant: Variant, latent: int, value: float
) -> Divergence:
    """The divergence of a variant at a value."""
    steered = concepts.at(variant, latent, value)
    return await divergence.measure(context, latent, concepts.labels[latent], steered)
