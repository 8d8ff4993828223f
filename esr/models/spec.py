"""What is said about a model: its SAE, layers, calibration, profiles and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, MinLen

from esr.errors import UserError
from esr.runs.paths import WORK
from esr.steering.source import SaeSource

ChatVariant = Literal["template", "llama-double-header"]
Dtype = Literal["float32", "bfloat16", "float16"]
Count = Annotated[int, Gt(0)]
Layer = Annotated[int, Ge(0)]
Name = Annotated[str, MinLen(1)]

STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}
"""How pydantic reads these classes from a model file: an unknown field is a mistake. Bounds are
written at the fields, where only :mod:`esr.models.from_toml` looks at them."""


@dataclass(frozen=True)
class Calibration:
    """Probabilistic bisection of the boost threshold (paper A.1.4).

    Attributes:
        rounds: evaluations per latent.
        prompts_per_round: responses averaged per evaluation.
        prior_mean: of the Gaussian prior over the threshold, in boost units.
        prior_sd: likewise.
        low: lower bound of the grid.
        high: upper bound of the grid.
        max_tokens: cap of a calibration response.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    rounds: Count
    prompts_per_round: Count
    prior_mean: float
    prior_sd: Annotated[float, Gt(0)]
    low: Annotated[float, Ge(0)]
    high: float
    max_tokens: Count = 256


@dataclass(frozen=True)
class GenerationProfile:
    """How prompts are rendered and tokens drawn: the paper's text, or the authors' release.

    Attributes:
        repetition_penalty: 1.1 in the paper; the release has 1.2 (70B), 1.15 (8B), 1.1 (Gemma).
        chat_variant: "template", or "llama-double-header": the release's second BOS and
            assistant header after the generation prompt.
        steering_layer: overrides the model's, where the release disagrees with the paper.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    repetition_penalty: Annotated[float, Gt(0)] = 1.1
    chat_variant: ChatVariant = "template"
    steering_layer: Layer | None = None


@dataclass(frozen=True)
class ModelShape:
    """What the memory plan must know of a decoder stack; from the model's ``config.json``.

    Attributes:
        layers: decoder layers.
        heads: query heads.
        kv_heads: key and value heads.
        head_dim: width of a head.
        ffn: width of the gated feed-forward block.
        vocabulary: rows of the embedding.
        tied: whether the output matrix is the embedding.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    ffn: Count
    vocabulary: Count
    tied: bool = False

    def linear(self, d_model: int) -> int:
        """Weights of attention and feed-forward blocks: what quantisation shrinks."""
        attention = d_model * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * d_model * self.ffn)

    def embedding(self, d_model: int) -> int:
        """Weights of the embedding and, where it is not tied, of the output matrix."""
        return self.vocabulary * d_model * (1 if self.tied else 2)

    def parameters(self, d_model: int) -> int:
        """All weights but those of the norms, which are fewer than 1 in 10,000."""
        return self.linear(d_model) + self.embedding(d_model)


@dataclass(frozen=True)
class ModelSpec:
    """One model with its SAE, layers and calibration.

    Layers are 0-based; layer ``i`` means the output of decoder layer ``i``, Hugging Face's
    ``hidden_states[i + 1]``.

    Attributes:
        key: name on the command line.
        title: name in figures.
        hf_id: Hugging Face id or local folder.
        revision: commit or branch of the model.
        neuronpedia: id of the dictionary's labels on Neuronpedia; empty where it has none.
        sae: dictionary whose decoder rows steer and whose encoder reads.
        steering_layer: where boosts and clamps act.
        feature_layer: where latents are read.
        d_model: width of the residual stream.
        d_sae: latents in the dictionary.
        labels: CSV of latent labels; None means the folder the label download writes to.
        prompt_set: name of the prompt set under ``data/prompts``.
        judge: default judge.
        max_tokens: cap of a response.
        context: longest prompt and response together, in tokens.
        in_flight: latents calibrated at once, and the least number of requests in flight.
        dtype: of the weights in the engine.
        quantization: vLLM's name of an on-the-fly scheme, e.g. "fp8_per_tensor"; empty for none.
        n_latents: latents boosted by default; about 1,000 in the paper (A.1.2).
        n_trials: trials per latent by default; 5 in the paper (A.1.4).
        shape: for the memory plan; None: read from the ``config.json`` of a local folder.
        organism: whether this is a trained demonstration model; its figures say so.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT

    key: Name
    title: Name
    hf_id: Name
    sae: SaeSource
    steering_layer: Layer
    feature_layer: Layer
    d_model: Count
    d_sae: Count
    calibration: Calibration
    profiles: Mapping[str, GenerationProfile] = field(
        default_factory=lambda: {"paper": GenerationProfile(), "release": GenerationProfile()}
    )
    revision: Name = "main"
    neuronpedia: str = ""
    labels: Path | None = None
    prompt_set: str = "how-to"
    judge: str = "haiku"
    max_tokens: Count = 512
    context: Count = 4096
    in_flight: Count = 20
    dtype: Dtype = "bfloat16"
    quantization: str = ""
    n_latents: Count = 1000
    n_trials: Count = 5
    shape: ModelShape | None = None
    organism: bool = False

    def profile(self, name: str) -> GenerationProfile:
        """A generation profile by name.

        Raises:
            UserError: no such profile.
        """
        if name not in self.profiles:
            raise UserError(
                f"unknown profile {name!r} for model {self.key}",
                ", ".join(self.profiles),
                f"--profile {next(iter(self.profiles))}",
            )
        return self.profiles[name]

    @property
    def parameters(self) -> float:
        """Billions of weights; 0 where :attr:`shape` is not known."""
        return self.shape.parameters(self.d_model) / 1e9 if self.shape else 0.0

    @property
    def label_file(self) -> Path:
        """Where the latent labels are expected."""
        return self.labels or WORK / "labels" / f"{self.key}.csv"
