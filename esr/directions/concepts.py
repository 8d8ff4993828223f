"""Directions of a concept from the model's own texts, through a run: generated, read, journaled.

About the concept are unsteered answers to questions about it, its label being put into
:data:`QUESTIONS`; the others are unsteered answers to the run's prompts. For experiments::

    concept = await read_concept(context, latent, label)
    direction = concept.direction("diffmean")
    control = concept.random(context.seed)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from esr.directions.fitting import Method, Split, fit_second, fit_vector, measure
from esr.directions.texts import Answer, Sides, read_states
from esr.engine.base import States
from esr.pipeline.context import RunContext
from esr.pipeline.schema import TrialSpec
from esr.pipeline.trials import run_trials
from esr.runs import seeds
from esr.steering.direction import Direction

QUESTIONS = (
    "What can you tell me about {concept}?",
    "Please explain {concept}.",
    "Tell me about {concept}.",
    "What should I know about {concept}?",
    "I want to learn about {concept}. Where do I begin?",
)
"""Ours; asked in turn, each with seeds of its own."""

N_TEXTS = 50
"""Of either side (arXiv 2604.08169: 50 and 50)."""

MAX_TOKENS = 128
"""Of an answer, at most: averages over longer ones change little (ours)."""


@dataclass(frozen=True)
class Concept:
    """A concept with the states of its texts.

    Attributes:
        name: the label.
        splits: layer -> states on either side.
        states: "mean" or "last".
        source: where the texts came from.
        model: what names the model.
    """

    name: str
    splits: Mapping[int, Split]
    states: str
    source: Mapping[str, Any]
    model: Mapping[str, str]

    def direction(self, method: Method = "diffmean", *, plane: bool = False) -> Direction:
        """Fitted at every layer that was read; with ``plane`` also the second vectors.

        Raises:
            UserError: the two sides do not differ, or there is no plane.
        """
        parts = []
        for layer, split in self.splits.items():
            vector, fit = fit_vector(split, method, layer)
            parts.append((vector, fit))
            if plane:
                parts.append(fit_second(split, vector, layer))
        return self._made(parts, method)

    def turned(self) -> Concept:
        """The same with its sides exchanged: directions lead away from the concept."""
        splits = {
            layer: Split(s.negative, s.positive, s.held_negative, s.held_positive)
            for layer, s in self.splits.items()
        }
        return replace(self, name=f"not {self.name}", splits=splits)

    def random(self, seed: int, *key: str | int) -> Direction:
        """A random direction per layer with the length of the difference of means, and with what
        is measured along it; the same for the same seed and key."""
        parts = []
        for layer, split in self.splits.items():
            _, like = fit_vector(split, "diffmean", layer)
            rng = seeds.generator(seed, "random direction", self.name, layer, *key)
            draw = torch.from_numpy(rng.standard_normal(split.positive.shape[1]))
            parts.append(measure(split, draw / draw.norm() * like.norm, layer))
        return self._made(parts, "random")

    def given(self, direction: Direction) -> Direction:
        """The vectors of another direction, with what is measured along them here."""
        parts = [
            measure(split, direction.vector(layer) * direction.fit(layer).norm, layer)
            for layer, split in self.splits.items()
        ]
        return self._made(parts, direction.method)

    def _made(self, parts: Sequence[tuple[Any, Any]], method: str) -> Direction:
        vectors, fits = zip(*parts, strict=True)
        return Direction(
            self.name,
            torch.stack(vectors),
            tuple(fits),
            method,
            self.states,
            dict(self.source),
            dict(self.model),
        )


async def read_concept(
    context: RunContext,
    latent: int,
    label: str,
    *,
    layers: Sequence[int] = (),
    states: States = "mean",
    n_texts: int = N_TEXTS,
) -> Concept:
    """Generate the texts of a concept, read their states, and split them.

    All generations and reads are in the run folder: repeated, nothing is done twice. The texts
    that are not about the concept serve all concepts of a run.

    Args:
        context: of an open run; its engine must have hooks at ``layers``.
        latent: whose concept it is, which names the texts; -1 for none.
        label: of the concept.
        layers: where it is fitted; the steering layer where left out.
        states: "mean" over an answer, or its "last" token.
        n_texts: of either side.
    """
    about = await _answers(context, concept_specs(context, latent, label, n_texts))
    others = await _answers(context, other_specs(context, n_texts))
    source = {"generated": {"label": label, "texts": n_texts, "seed": context.seed}}
    return await of_sides(context, label, Sides(about, others, source), layers, states)


async def of_sides(
    context: RunContext,
    name: str,
    sides: Sides,
    layers: Sequence[int] = (),
    states: States = "mean",
) -> Concept:
    """The same for texts that are there."""
    splits = {}
    for layer in layers or (context.spec.steering_layer,):
        positive = await read_states(context, sides.positive, layer, states)
        negative = await read_states(context, sides.negative, layer, states)
        splits[layer] = Split.of(positive, negative, context.seed)
    return Concept(name, splits, states, sides.source, model_names(context))


def model_names(context: RunContext) -> dict[str, str]:
    """What names the model of a run in a direction file."""
    identity = context.settings.get("model")
    known = identity if isinstance(identity, Mapping) else {}
    names = {"key": context.spec.key}
    for name in ("hf_id", "revision", "weights"):
        # A local model has no commit: its revision is a branch that means nothing.
        if known.get(name) and not (name == "revision" and "weights" in known):
            names[name] = str(known[name])
    return names


def concept_specs(context: RunContext, latent: int, label: str, n: int) -> list[TrialSpec]:
    """Unsteered answers about a concept, to be read and not judged."""
    return [
        _spec(
            context,
            latent,
            label,
            f"concept/{latent}/{label}/{number}",
            f"concept-{number % len(QUESTIONS)}",
            QUESTIONS[number % len(QUESTIONS)].replace("{concept}", label),
        )
        for number in range(n)
    ]


def other_specs(context: RunContext, n: int) -> list[TrialSpec]:
    """Unsteered answers to the run's prompts, in turn."""
    prompts = context.prompts.prompts
    return [
        _spec(
            context,
            -1,
            "",
            f"concept/none/{number}",
            prompts[number % len(prompts)].id,
            prompts[number % len(prompts)].text,
        )
        for number in range(n)
    ]


def _spec(
    context: RunContext, latent: int, label: str, trial_id: str, prompt_id: str, prompt: str
) -> TrialSpec:
    return TrialSpec(
        arm="concept",
        trial_id=trial_id,
        latent=latent,
        latent_label=label,
        threshold=0.0,
        prompt_id=prompt_id,
        prompt=prompt,
        interventions=(),
        sampling=context.sampling(
            seeds.derive(context.seed, "concept", trial_id),
            min(MAX_TOKENS, context.spec.max_tokens),
        ),
        judged=False,
    )


async def _answers(context: RunContext, specs: Sequence[TrialSpec]) -> list[Answer]:
    records = await run_trials(specs, context, description="texts of the concept")
    return [
        Answer(context.chat.prompt_ids(record.spec.prompt), record.token_ids)
        for record in records
        if record.token_ids
    ]
