"""``python -m esr.directions fit``: texts, states, a fit, and a file in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from simple_parsing import field

from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.labels import load_labels
from esr.pipeline.cli import HELP_GROUPS, CommonConfig, incidental
from esr.pipeline.experiment import Experiment
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.settings import check_latents, check_layers
from esr.pipeline.stages import Stage
from esr.pipeline.trials import by_feature
from esr.runs.bounds import bounded
from esr.runs.commands import Groups
from esr.runs.plain import file_digest

if TYPE_CHECKING:
    from esr.directions.concepts import Concept
    from esr.pipeline.context import RunContext
    from esr.steering.direction import Direction

NAME = "directions"
FILE_NAME = "direction.safetensors"
N_TEXTS = 50
"""Of either side, where they are generated (arXiv 2604.08169: 50 and 50)."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(CommonConfig):
    """Fit a direction of the residual stream to texts about a concept, and others."""

    help_groups: ClassVar[Groups] = {
        "": ("model", "dry_run"),
        "texts": ("concept", "latent", "positive", "negative", "chat", "n_texts"),
        "fit": ("method", "states", "layers", "plane", "vector", "to"),
        **{title: names for title, names in HELP_GROUPS.items() if title},
    }

    concept: str = field(default="", metavar="TEXT")
    """A concept, e.g. "wine": the model answers questions about it, unsteered."""

    latent: int | None = bounded(None, ge=0, metavar="K")
    """The same with the label of a latent as the concept."""

    positive: str = field(default="", metavar="FILE")
    """Texts about the concept, one a line, in place of generated ones."""

    negative: str = field(default="", metavar="FILE")
    """Texts that are not about it."""

    chat: str = field(default="", metavar="JSONL")
    """A chat data set with labels, in place of two text files (docs/steering.md)."""

    n_texts: int = bounded(N_TEXTS, ge=10, le=10_000, metavar="N")
    """Texts of either side where they are generated (arXiv 2604.08169)."""

    method: Literal["diffmean", "logistic", "ridge", "pca", "given"] = "diffmean"
    """Difference of means, logistic regression (C = 1, L-BFGS), the same with its penalty by
    validation, first principal component; given measures the vectors of --vector."""

    states: Literal["mean", "last"] = "mean"
    """What is fitted: states averaged over an answer, or at its last token."""

    layers: tuple[int, ...] = bounded((), ge=0, metavar="LAYER")
    """Layers, each with a vector of its own; default: the model's steering layer."""

    plane: bool = field(default=False, action="store_true")
    """Fit a second vector for rotations: the first principal component of the rest."""

    vector: str = field(default="", metavar="FILE")
    """A direction file, control vector (.gguf) or steering-vectors file (.pt) to be measured."""

    to: str = incidental("", metavar="FILE")
    """Where else to write the direction file; it is always in the run folder."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {
            "--concept": bool(self.concept),
            "--latent": self.latent is not None,
            "--positive and --negative": bool(self.positive or self.negative),
            "--chat": bool(self.chat),
        }
        if sum(given.values()) != 1:
            raise UserError(
                f"texts come from {' and '.join(k for k, v in given.items() if v) or 'nowhere'}",
                f"one of {', '.join(given)}",
                '--concept "wine"',
            )
        if bool(self.positive) != bool(self.negative):
            raise UserError("one text file", "two", "--positive FILE --negative FILE")
        if (self.method == "given") != bool(self.vector):
            raise UserError("--method given and --vector", "both or none", "--vector FILE")
        if len(set(self.layers)) < len(self.layers):
            raise UserError(
                f"--layers {' '.join(map(str, self.layers))}", "each once", "--layers 3"
            )

    def identity(self) -> dict[str, Any]:
        """Files by their content."""
        content = {
            name: file_digest(Path(path), 16)
            for name in ("positive", "negative", "chat", "vector")
            if (path := getattr(self, name)) and Path(path).is_file()
        }
        return {**super().identity(), **content}

    def label(self, spec: ModelSpec) -> str:
        """Name of the direction.

        Raises:
            UserError: a latent without a label.
        """
        if self.latent is not None:
            check_latents("--latent", [self.latent], spec)
            labels = load_labels(spec)
            if self.latent not in labels:
                raise UserError(
                    f"latent {self.latent} has no label", "one with a label", "--concept TEXT"
                )
            return labels[self.latent]
        return self.concept or Path(self.chat or self.positive).stem


def stages(config: FitConfig, spec: ModelSpec) -> list[Stage]:
    """Texts, where they are generated, and one read per text and layer."""
    config.label(spec)
    check_layers("--layers", config.layers, spec)
    if config.vector:
        _given(config, spec)
    generated = 2 * config.n_texts if config.concept or config.latent is not None else 0
    n_layers = max(1, len(config.layers))
    cap = min(128, spec.max_tokens)
    return [
        Stage("texts", generated, cap, judged=False),
        Stage("states", 0, 0, judged=False, reads=generated * n_layers),
    ]


def layers_of(config: FitConfig, _spec: ModelSpec) -> tuple[int, ...]:
    """Layers at which the engine needs hooks."""
    return config.layers


async def specs(config: FitConfig, context: RunContext) -> list[TrialSpec]:
    """Everything: the texts, the reads, the fit and the file."""
    from esr.directions import concepts, texts
    from esr.steering import directions

    label = config.label(context.spec)
    latent = -1 if config.latent is None else config.latent
    if config.concept or config.latent is not None:
        generated = [
            *concepts.concept_specs(context, latent, label, config.n_texts),
            *concepts.other_specs(context, config.n_texts),
        ]
        concept = await concepts.read_concept(
            context,
            latent,
            label,
            layers=config.layers,
            states=config.states,
            n_texts=config.n_texts,
        )
    else:
        generated = []
        sides = (
            texts.from_chat(context, Path(config.chat))
            if config.chat
            else texts.from_files(context, Path(config.positive), Path(config.negative))
        )
        concept = await concepts.of_sides(context, label, sides, config.layers, config.states)
    direction = _fitted(config, concept, context.spec)
    for path in (context.run.path / FILE_NAME, *([Path(config.to)] if config.to else [])):
        directions.write(direction, path)
    directions.store(direction)
    return generated


def _given(config: FitConfig, spec: ModelSpec) -> Direction:
    """What is to be measured.

    Raises:
        UserError: another width or model, or a layer that it has no vector of.
    """
    from esr.directions.foreign import read_any
    from esr.models.identity import model_identity

    vector = read_any(Path(config.vector))
    vector.check_model(spec.d_model, model_identity(spec))
    for layer in config.layers or (spec.steering_layer,):
        vector.index(layer)
    return vector


def _fitted(config: FitConfig, concept: Concept, spec: ModelSpec) -> Direction:
    if config.method != "given":
        return concept.direction(config.method, plane=config.plane)
    vector = _given(config, spec)
    measured = concept.given(vector)
    return replace(measured, name=vector.name, sources={**measured.sources, **vector.sources})


def outcome_results(
    _config: FitConfig, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``: what the direction file says, and the texts it was made from."""
    from esr.steering import directions

    path = context.run.path / FILE_NAME
    fitted: dict[str, Any] = {}
    if path.is_file():
        direction = directions.read(path)
        fitted = {
            "direction": {**direction.metadata(), "digest": direction.digest},
            "file": str(path),
        }
    return {
        "experiment_config": context.experiment_config(),
        **fitted,
        "results_by_feature": by_feature(records),
    }


def show(data: Mapping[str, Any]) -> str:
    """What is printed at the end."""
    from esr.directions.tables import lines

    return "\n".join([*lines(data["direction"]), f"  file: {data['file']}"])


EXPERIMENT = Experiment(
    NAME,
    FitConfig,
    stages,
    specs,
    outcome_results,
    show,
    command="esr.directions fit",
    layers=layers_of,
)
