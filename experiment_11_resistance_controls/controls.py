"""The controls: which trials each adds. One function per control, one arm or more each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialSpec
from esr.runs import seeds
from experiment_11_resistance_controls import matched, vectors
from experiment_11_resistance_controls.config import Config
from experiment_11_resistance_controls.episodes import Beginnings, Episode

Specs = Callable[[Config, RunContext, Beginnings], Awaitable[list[TrialSpec]]]


@dataclass(frozen=True)
class Control:
    """One control.

    Attributes:
        specs: its trials; may generate or calibrate first.
        per_trial: responses for each trial of the parent, at most.
        verdicts: verdicts on texts that are there already, for each trial, at most.
        needs: what of the parent it works on: all "trials", "places" to cut them at, which there
            are where any trial starts over, or those that do ("restarts").
        calibrates: calibrations of each latent.
        note: for the dry run.
    """

    specs: Specs
    per_trial: Callable[[Config], float]
    verdicts: float = 0
    needs: str = "trials"
    calibrates: int = 0
    note: str = ""


def _reseeded(spec: TrialSpec, context: RunContext, purpose: str, *key: str | int) -> TrialSpec:
    seed = seeds.derive(context.seed, purpose, spec.trial_id, *key)
    return replace(spec, sampling=replace(spec.sampling, seed=seed))


async def redraw(config: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
    """Trials that start over once more, under new seeds: the others have no part in the null."""
    return [
        replace(_reseeded(episode.spec, context, "redraw", turn), arm=f"redraw-{turn + 1}")
        for turn in range(config.redraws)
        for episode in texts.episodes
        if episode.multi
    ]


async def position(_: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
    """Single attempts cut where others start over; verdicts on both parts."""
    del context
    specs = []
    for episode in texts.episodes:
        if not episode.multi and episode.name in texts.lengths:
            for arm, part in zip(
                ("position-head", "position-tail"), texts.parts(episode), strict=True
            ):
                specs.append(replace(episode.spec, arm=arm, given=part))
    return specs


def _continued(steered: bool) -> Specs:
    async def prefill(_: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
        """The beginning of every response is given; the model goes on, boosted or not."""
        specs = []
        for episode in texts.episodes:
            if episode.name not in texts.lengths:
                continue
            spec = _reseeded(episode.spec, context, "prefill")
            prefix = texts.prefix(episode)
            left = max(1, spec.sampling.max_tokens - len(prefix))
            spec = replace(
                spec if steered else spec.unsteered(),
                arm=f"prefill-{'steered' if steered else 'unsteered'}",
                prefix_token_ids=prefix,
                sampling=replace(spec.sampling, max_tokens=left),
            )
            specs.append(spec)
        return specs

    return prefill


async def scope(config: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
    """The boost on some positions alone."""
    del context
    scopes = {"scope-prompt": "prompt", "scope-generated": "generated"}
    scopes |= {f"scope-until-{n}": f"until {n}" for n in config.off_after}
    return [
        replace(episode.spec, arm=arm, scope=where)
        for arm, where in scopes.items()
        for episode in texts.episodes
    ]


async def blind(_: Config, context: RunContext, texts: Beginnings) -> list[TrialSpec]:
    """Verdicts once more: told the same, without a label, with another trial's label, and with the
    bare question where the parent's prompts were more."""
    others = _other_labels(texts.episodes, context)
    bare = {prompt.id: prompt.text for prompt in context.prompts.prompts}
    specs = []
    for episode in texts.episodes:
        spec = replace(episode.spec, given=episode.text)
        specs.append(replace(spec, arm="blind-told"))
        specs.append(replace(spec, arm="blind-hidden", latent_label=""))
        specs.append(replace(spec, arm="blind-shuffled", latent_label=others[episode.spec.latent]))
        question = bare.get(spec.prompt_id, spec.prompt)
        if question != spec.prompt:
            specs.append(replace(spec, arm="blind-bare-prompt", prompt=question))
    return specs


def _other_labels(episodes: Sequence[Episode], context: RunContext) -> dict[int, str]:
    """Each latent's label is another latent's: the list turned by a random step."""
    labels = {e.spec.latent: e.spec.latent_label for e in episodes}
    names, n = list(labels.values()), len(labels)
    step = int(seeds.generator(context.seed, "shuffled labels").integers(1, max(2, n)))
    return {latent: names[(place + step) % n] for place, latent in enumerate(labels)}


async def length(*_: object) -> list[TrialSpec]:
    """Nothing is asked: it is computed from the parent's results."""
    return []


ALL: dict[str, Control] = {
    "redraw": Control(redraw, lambda config: config.redraws, needs="restarts"),
    "position": Control(position, lambda _: 0, verdicts=2, needs="places"),
    "prefill-unsteered": Control(_continued(False), lambda _: 1, needs="places"),
    "prefill-steered": Control(_continued(True), lambda _: 1, needs="places"),
    "matched-prefix": Control(
        matched.specs, lambda _: 4, verdicts=4, needs="restarts", note=matched.NOTE
    ),
    "scope": Control(scope, lambda config: 2 + len(config.off_after)),
    "concept": Control(vectors.concept, lambda _: 1, calibrates=1, note=vectors.CONCEPT_NOTE),
    "random": Control(vectors.random, lambda _: 2, calibrates=1, note=vectors.RANDOM_NOTE),
    "blind": Control(blind, lambda _: 0, verdicts=4),
    "length": Control(length, lambda _: 0),
}
"""Every control, in the order of :data:`experiment_11_resistance_controls.config.CONTROLS`."""
