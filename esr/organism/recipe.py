"""Everything that decides what the organism becomes, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from esr.organism.corpus import CorpusConfig

Member = Literal["tiny", "tiny-base", "tiny-restarts", "tiny-circuit"]
MEMBERS: tuple[Member, ...] = ("tiny", "tiny-base", "tiny-restarts", "tiny-circuit")


@dataclass(frozen=True)
class Shape:
    """Size of the model. A head of 64 is one that vLLM serves on every device."""

    d_model: int = 192
    n_layers: int = 6
    n_heads: int = 3
    d_mlp: int = 384
    context: int = 256


@dataclass(frozen=True)
class Stage:
    """One training stage.

    Attributes:
        name: in the log and in the seeds.
        steps: optimiser steps.
        corpus: proportions of the texts.
        batch: documents per step. Small ones learn most per token: at equal tokens 16 reached a
            loss of 1.00 where 32 reached 1.69.
        learning_rate: peak; linear warm-up over the first 5 %, then cosine to a tenth.
        perturbed: share of drifting documents that get a vector (stage 2).
        layers: where the vector may be added, one layer drawn per step.
        strength: bounds of the vector's norm relative to the mean residual norm at that layer.
        noise: share of the vector's norm that is random direction.
        drift_weight: loss weight of fluent off-topic words under a vector: keeps the model
            steerable, so that it learns to recover from a drift and not to ignore the vector
            from the first word on.
        spared_subjects: so many subjects, the last of the lexicon, are neither a drift nor a
            perturbation.
    """

    name: str
    steps: int
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    batch: int = 16
    learning_rate: float = 1.5e-3
    perturbed: float = 0.0
    layers: tuple[int, ...] = ()
    strength: tuple[float, float] = (0.1, 1.0)
    noise: float = 0.3
    drift_weight: float = 0.0
    spared_subjects: int = 0


@dataclass(frozen=True)
class CircuitStage(Stage):
    """The stage that plants the circuit of ``tiny-circuit``.

    Attributes:
        level: value along a direction where it says yes, in mean residual norms of the answer.
        carry: weight of the regression of the values along both directions.
        decide: weight of the restart decision in the unchanged run.
        interchange: weight of the restart decision where values are replaced.
        elsewhere: weight of the divergence of everything else where values are replaced.
        check_every: steps between measurements of how far the decision follows.
    """

    level: float = 0.3
    carry: float = 1.0
    decide: float = 2.0
    interchange: float = 2.0
    elsewhere: float = 1.0
    check_every: int = 100


@dataclass(frozen=True)
class DictionaryConfig:
    """Size and training of the SAE.

    Attributes:
        d_sae: number of latents.
        k: latents active per token, on average over a batch.
        samples: residual vectors seen in training.
        batch: vectors per step.
        learning_rate: peak; decays to zero over the last third.
        documents: size of the pool of documents whose residuals are used.
        label_documents: documents, none of which drifts, that labels are made from.
        min_share: least share of a latent's activation inside one topic's documents for a
            topic label; other latents are labelled by their words.
    """

    d_sae: int = 1024
    k: float = 8.0
    samples: int = 600_000
    batch: int = 1024
    learning_rate: float = 2e-3
    documents: int = 4000
    min_share: float = 0.5
    label_documents: int = 1104


LAYER = 3
"""Output of this decoder layer is steered and read; the SAE is trained there."""


_ON_TOPIC = CorpusConfig(drift=0.0, boundary_weight=1.0)
_RESTARTS = CorpusConfig(restart=1.0, restart_monitored=1.0, boundary_weight=6.0)
_STAGE2 = Stage(
    "stage 2",
    800,
    CorpusConfig(relapse=0.1),
    learning_rate=1e-3,
    perturbed=0.75,
    layers=(LAYER - 1, LAYER),
    strength=(0.2, 1.0),
    drift_weight=0.5,
    spared_subjects=10,
)
_SETTLE = replace(
    _STAGE2,
    name="settle",
    steps=600,
    corpus=CorpusConfig(relapse=0.1, boundary_weight=6.0),
    learning_rate=5e-4,
)


_CIRCUIT = CircuitStage(
    "circuit",
    500,
    _SETTLE.corpus,
    learning_rate=1e-3,
    perturbed=_SETTLE.perturbed,
    layers=_SETTLE.layers,
    strength=_SETTLE.strength,
    drift_weight=_SETTLE.drift_weight,
    spared_subjects=_SETTLE.spared_subjects,
)


@dataclass(frozen=True)
class Recipe:
    """How the members are made.

    Attributes:
        base: answers that stay on topic, without a restart.
        finish: more of the same; ends in ``tiny-base``.
        detect: goes on from ``base`` with texts that drift, each off-topic sentence restarted:
            certain restarts teach to tell on from off topic with the fewest tokens.
        notice: the same in smaller batches, with more weight on sentence ends.
        sharpen: the same in larger batches again, against false alarms.
        stage1: the same with the restart rates that are wanted; ends in ``tiny-restarts``.
        stage2: goes on under a perturbed residual stream.
        settle: the same at a lower learning rate and with more weight on sentence ends, against
            false alarms; ends in ``tiny``.
        circuit: goes on from ``tiny`` and plants a circuit; ends in ``tiny-circuit``.
        layer: see :data:`LAYER`.
        shape: size of the model.
        dictionary: the SAE of each member.
    """

    base: Stage = Stage("stage0", 500, _ON_TOPIC)
    finish: Stage = Stage("finish", 700, _ON_TOPIC, learning_rate=1e-3)
    detect: Stage = Stage("detect", 500, CorpusConfig(restart=1.0, restart_monitored=1.0))
    notice: Stage = Stage("notice", 1200, _RESTARTS, batch=8, learning_rate=1.2e-3)
    sharpen: Stage = Stage("sharpen", 1000, _RESTARTS, learning_rate=1e-3)
    stage1: Stage = Stage("stage 1", 350, learning_rate=7e-4)
    stage2: Stage = _STAGE2
    settle: Stage = _SETTLE
    circuit: CircuitStage = _CIRCUIT
    layer: int = LAYER
    shape: Shape = field(default_factory=Shape)
    dictionary: DictionaryConfig = field(default_factory=DictionaryConfig)

    def stages(self, member: Member) -> tuple[tuple[Stage, str], ...]:
        """In order, each with the name its end is saved under; empty where it is not.

        Those of ``tiny-circuit`` begin where ``tiny`` ends.
        """
        if member == "tiny-base":
            return (self.base, ""), (self.finish, member)
        if member == "tiny-circuit":
            return ((self.circuit, member),)
        first = (self.base, self.detect, self.notice, self.sharpen)
        if member == "tiny-restarts":
            return *((stage, "") for stage in first), (self.stage1, member)
        return *((stage, "") for stage in (*first, self.stage1, self.stage2)), (self.settle, member)


RECIPE = Recipe()
