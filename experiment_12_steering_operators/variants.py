"""Ways to push towards a latent's concept, and the interventions they are at a value.

A *value* lies on the scale of the model's boosts: at the value b every operator moves a typical
token, one of texts that are not about the concept, as far as the boost b does, so that one search
serves all (:func:`esr.steering.operators.strength_at`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from esr.errors import UserError
from esr.pipeline.calibration import Push
from esr.pipeline.context import RunContext
from esr.steering.interventions import Boost, Intervention
from experiment_12_steering_operators.config import Config, PushConfig

if TYPE_CHECKING:
    from esr.directions.concepts import Concept
    from esr.directions.fitting import Method
    from esr.steering.direction import Direction

METHODS: Mapping[str, Method] = {
    "diffmean": "diffmean",
    "rotate": "diffmean",
    "swfc": "logistic",
    "sttp": "logistic",
    "stmp": "logistic",
    "floor": "logistic",
    "pin": "logistic",
    "probe": "ridge",
}
"""How the direction of an operator is fitted."""


async def read_concepts(
    context: RunContext, labels: Mapping[int, str], config: PushConfig, layers: tuple[int, ...]
) -> dict[int, Concept]:
    """Generate and read the texts of every latent."""
    from esr.directions.concepts import read_concept

    return {
        latent: await read_concept(
            context, latent, label, layers=layers, states=config.states, n_texts=config.n_texts
        )
        for latent, label in labels.items()
    }


@dataclass(frozen=True)
class Variant:
    """An operator at some layers.

    Attributes:
        operator: its name.
        layers: where it acts; empty for the model's steering layer.
    """

    operator: str
    layers: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """E.g. "sttp", or "sttp@2,3"."""
        return self.operator + (f"@{','.join(map(str, self.layers))}" if self.layers else "")

    def is_parent(self, scope: str) -> bool:
        """Whether the parent's own trials are this."""
        return self.operator == "boost" and not self.layers and scope == "all"


def variants(config: Config, n_layers: int) -> list[Variant]:
    """Those of the options; a sweep has one per operator and layer."""
    if not config.layer_sweep:
        return [Variant(name, config.layers) for name in config.operators]
    layers = config.layers or tuple(range(n_layers))
    return [Variant(name, (layer,)) for name in config.operators for layer in layers]


@dataclass
class Concepts:
    """The concepts of the latents of a run, with the directions fitted to each.

    Attributes:
        labels: latent -> label.
        scope: positions that are steered.
        states: latent -> its concept.
        lengths: latent -> length of its decoder row.
    """

    labels: Mapping[int, str]
    scope: str
    states: Mapping[int, Concept]
    lengths: Mapping[int, float]
    steering_layer: int
    seed: int
    _fitted: dict[tuple[int, str], Direction] = field(default_factory=dict)

    @classmethod
    async def read(
        cls,
        context: RunContext,
        labels: Mapping[int, str],
        config: PushConfig,
        layers: tuple[int, ...],
    ) -> Concepts:
        """Generate and read the texts of every latent."""
        from esr.steering import sae

        states = await read_concepts(context, labels, config, layers)
        rows = sae.load(context.spec.sae).bank(list(labels)).decoder.norm(dim=1)
        lengths = dict(zip(labels, rows.tolist(), strict=True))
        layer = context.spec.steering_layer
        return cls(labels, config.scope, states, lengths, layer, context.seed)

    def direction(self, latent: int, operator: str) -> Direction:
        """Fitted once."""
        if (latent, operator) not in self._fitted:
            concept = self.states[latent]
            if operator == "random":
                fitted = concept.random(self.seed, latent)
            else:
                fitted = concept.direction(METHODS[operator], plane=operator == "rotate")
            self._fitted[latent, operator] = fitted
        return self._fitted[latent, operator]

    def at(self, variant: Variant, latent: int, value: float) -> tuple[Intervention, ...]:
        """The interventions of a variant at a value.

        Raises:
            UserError: the operator cannot push towards this concept.
        """
        layers = variant.layers or (self.steering_layer,)
        if variant.operator == "boost":
            only = len(layers) == 1 and layers[0] == self.steering_layer
            share = value / len(layers)
            return tuple(
                Boost(latent, share, None if only else layer, self.scope) for layer in layers
            )
        from esr.steering.operators import Steer, strength_at

        direction = self.direction(latent, variant.operator)
        step = value * self.lengths[latent] / len(layers)
        return tuple(
            slot
            for layer in layers
            for slot in Steer(
                direction,
                variant.operator,
                strength_at(variant.operator, direction, layer, step),
                layers=(layer,),
                scope=self.scope,
            )
        )

    def half_turn(self, variant: Variant, latent: int) -> float:
        """The value at which a rotation has turned half round; infinite for what does not turn."""
        if variant.operator != "rotate":
            return math.inf
        direction = self.direction(latent, variant.operator)
        layers = variant.layers or (self.steering_layer,)
        turns = [
            2 * math.hypot(*(fit.negative.mean for fit in fits if fit.negative))
            for layer in layers
            for fits in [(direction.fit(layer), direction.fit(layer, "second"))]
        ]
        return min(turns) * len(layers) / self.lengths[latent]

    def push(self, variant: Variant) -> Push:
        """For a calibration."""
        return Push(variant.name, lambda latent, value: self.at(variant, latent, value))

    def unable(self, variant: Variant) -> dict[int, str]:
        """Latents towards whose concept a variant cannot push, with the reason in one line."""
        reasons = {}
        for latent in self.labels:
            try:
                self.at(variant, latent, 1.0)
            except UserError as error:
                reasons[latent] = error.problem
        return reasons
