"""The controls concept and random: another vector in place of the decoder row.

Strengths are on the scale of the model's boosts: a value moves the stream as far as that boost of
the latent's decoder row does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from esr.pipeline.calibration import Push, calibrate
from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialSpec
from esr.runs import seeds
from esr.steering.interventions import Intervention, Row, Slot
from experiment_11_resistance_controls.config import Config
from experiment_11_resistance_controls.episodes import Beginnings

CONCEPT_NOTE = "unsteered texts about each concept come on top"
RANDOM_NOTE = "one arm at the boost's length, one calibrated"


async def concept(config: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
    """The difference of means between texts about the latent's concept and others, calibrated."""
    from esr.directions.concepts import read_concept
    from esr.steering.directions import store

    rows = {}
    for latent, label in _labels(texts).items():
        found = await read_concept(context, latent, label, n_texts=config.concept_texts)
        direction = found.direction("diffmean")
        rows[latent] = Row(direction.index(context.spec.steering_layer), store(direction))
    push = _push("control concept", context, rows)
    return await _calibrated("concept", context, texts, push)


async def random(config: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
    """A random vector per latent: at the length of the parent's boost, and calibrated."""
    del config
    rows = {latent: _random(context, latent) for latent in _labels(texts)}
    push = _push("control random", context, rows)
    as_long = [
        replace(
            episode.spec,
            arm="random-norm",
            interventions=push.of(episode.spec.latent, episode.spec.threshold),
        )
        for episode in texts.episodes
    ]
    return [*as_long, *await _calibrated("random-score", context, texts, push)]


def _labels(texts: Beginnings) -> dict[int, str]:
    return {e.spec.latent: e.spec.latent_label for e in texts.episodes}


def _random(context: RunContext, latent: int) -> Row:
    import torch

    from esr.steering.direction import Direction, Fit
    from esr.steering.directions import store

    rng = seeds.generator(context.seed, "random direction", latent)
    drawn = torch.from_numpy(rng.standard_normal(context.spec.d_model)).float()
    vectors = (drawn / drawn.norm())[None]
    fits = (Fit(context.spec.steering_layer),)
    return Row(0, store(Direction(f"random, for latent {latent}", vectors, fits, "random")))


def lengths(context: RunContext, latents: list[int]) -> dict[int, float]:
    """Length of the decoder row of each latent."""
    from esr.steering import sae

    decoder = sae.load(context.spec.sae).bank(latents).decoder
    return dict(zip(latents, decoder.float().norm(dim=1).tolist(), strict=True))


def _push(
    name: str,
    context: RunContext,
    rows: Mapping[int, Row],
) -> Push:
    long = lengths(context, list(rows))

    def of(latent: int, value: float) -> tuple[Intervention, ...]:
        return (Slot(rows[latent], boost=value * long[latent]),)

    return Push(name, of)


async def _calibrated(
    arm: str, context: RunContext, texts: Beginnings, push: Push
) -> list[TrialSpec]:
    """Trials at the strength that gives the parent's target score; failed latents have none."""
    thresholds = await calibrate(context, _labels(texts), push)
    specs = []
    for episode in texts.episodes:
        latent = episode.spec.latent
        value = thresholds[latent].value
        if value is not None:
            changed = push.of(latent, value)
            specs.append(replace(episode.spec, arm=arm, threshold=value, interventions=changed))
    return specs
