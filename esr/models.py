"""The model registry: every fact about a model that changes a measurement (paper Table 1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from esr.errors import UserError
from esr.paths import DATA, ORGANISM

ChatVariant = Literal["template", "llama-double-header"]


@dataclass(frozen=True)
class SaeSource:
    """Where an SAE comes from: a SAELens release and id, or a local SAELens folder."""

    release: str = ""
    sae_id: str = ""
    folder: Path | None = None

    def describe(self) -> str:
        """One line for messages and ``run.json``."""
        return str(self.folder) if self.folder else f"{self.release}/{self.sae_id}"


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

    rounds: int
    prompts_per_round: int
    prior_mean: float
    prior_sd: float
    low: float
    high: float
    max_tokens: int = 256


@dataclass(frozen=True)
class GenerationProfile:
    """How prompts are rendered and tokens drawn: the paper's text, or the authors' release.

    Attributes:
        repetition_penalty: 1.1 in the paper; the release has 1.2 (70B), 1.15 (8B), 1.1 (Gemma).
        chat_variant: "template", or "llama-double-header": the release's second BOS and
            assistant header after the generation prompt.
        steering_layer: overrides the model's, where the release disagrees with the paper.
    """

    repetition_penalty: float = 1.1
    chat_variant: ChatVariant = "template"
    steering_layer: int | None = None


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
        quantization: vLLM's on-the-fly scheme; empty for none.
        n_latents: latents boosted by default; about 1,000 in the paper (A.1.2).
        n_trials: trials per latent by default; 5 in the paper (A.1.4).
        parameters: billions of weights, for the memory estimate.
        organism: whether this is a trained demonstration model; its figures say so.
    """

    key: str
    title: str
    hf_id: str
    sae: SaeSource
    steering_layer: int
    feature_layer: int
    d_model: int
    d_sae: int
    calibration: Calibration
    profiles: Mapping[str, GenerationProfile] = field(
        default_factory=lambda: {"paper": GenerationProfile(), "release": GenerationProfile()}
    )
    revision: str = "main"
    neuronpedia: str = ""
    labels: Path | None = None
    prompt_set: str = "how-to"
    judge: str = "haiku"
    max_tokens: int = 512
    context: int = 4096
    in_flight: int = 20
    dtype: str = "bfloat16"
    quantization: str = ""
    n_latents: int = 1000
    n_trials: int = 5
    parameters: float = 0.0
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
    def label_file(self) -> Path:
        """Where the latent labels are expected."""
        return self.labels or DATA / "labels" / f"{self.key}.csv"


def _llama(steering_release: int | None, penalty: float) -> dict[str, GenerationProfile]:
    return {
        "paper": GenerationProfile(),
        "release": GenerationProfile(penalty, "llama-double-header", steering_release),
    }


def _gemma(
    size: str, shape: tuple[int, int, int], width: str, parameters: float, prior: Calibration
) -> ModelSpec:
    layer, d_model, d_sae = shape
    return ModelSpec(
        key=f"gemma-{size}",
        title=f"Gemma-2-{size.upper()}",
        hf_id=f"google/gemma-2-{size}-it",
        sae=SaeSource(
            f"gemma-scope-{size}-pt-res-canonical", f"layer_{layer}/width_{width}/canonical"
        ),
        steering_layer=layer,
        feature_layer=layer,
        d_model=d_model,
        d_sae=d_sae,
        calibration=prior,
        neuronpedia=f"gemma-2-{size}/{layer}-gemmascope-res-{width}",
        parameters=parameters,
    )


def _organism(key: str, title: str) -> ModelSpec:
    return ModelSpec(
        key=key,
        title=title,
        hf_id=str(ORGANISM / key),
        sae=SaeSource(folder=ORGANISM / f"{key}-sae"),
        steering_layer=2,
        feature_layer=4,
        d_model=128,
        d_sae=768,
        calibration=Calibration(10, 5, 40.0, 40.0, 0.0, 200.0, max_tokens=96),
        labels=ORGANISM / f"{key}-labels.csv",
        prompt_set="organism",
        judge="lexical",
        max_tokens=96,
        context=256,
        in_flight=64,
        dtype="float32",
        n_latents=40,
        # Trials cost nothing here, and more of them narrow the intervals.
        n_trials=15,
        organism=True,
    )


_ALL = (
    ModelSpec(
        key="70b",
        title="Llama-3.3-70B",
        hf_id="meta-llama/Llama-3.3-70B-Instruct",
        sae=SaeSource("goodfire-llama-3.3-70b-instruct", "layer_50"),
        steering_layer=33,
        feature_layer=50,
        d_model=8192,
        d_sae=65536,
        calibration=Calibration(10, 5, 7.0, 5.0, 0.0, 100.0),
        profiles=_llama(None, 1.2),
        neuronpedia="llama3.3-70b-it/50-resid-post-gf",
        in_flight=10,
        quantization="fp8",
        parameters=70.6,
    ),
    ModelSpec(
        key="8b",
        title="Llama-3.1-8B",
        hf_id="meta-llama/Llama-3.1-8B-Instruct",
        sae=SaeSource("goodfire-llama-3.1-8b-instruct", "layer_19"),
        steering_layer=19,
        feature_layer=19,
        d_model=4096,
        d_sae=65536,
        calibration=Calibration(10, 1, 10.0, 10.0, 0.0, 50.0),
        profiles=_llama(12, 1.15),
        neuronpedia="llama3.1-8b-it/19-resid-post-gf",
        in_flight=50,
        parameters=8.0,
    ),
    _gemma("2b", (16, 2304, 16384), "16k", 2.6, Calibration(10, 1, 150.0, 75.0, 0.0, 300.0)),
    _gemma("9b", (26, 3584, 16384), "16k", 9.2, Calibration(10, 1, 280.0, 280.0, 0.0, 560.0)),
    _gemma(
        "27b", (22, 4608, 131072), "131k", 27.2, Calibration(10, 1, 1500.0, 1500.0, 0.0, 5000.0)
    ),
    _organism("tiny", "tiny organism"),
    _organism("tiny-base", "tiny organism, base"),
)

REGISTRY: Mapping[str, ModelSpec] = {spec.key: spec for spec in _ALL}


def get(key: str) -> ModelSpec:
    """A registered model.

    Raises:
        UserError: no such key.
    """
    if key not in REGISTRY:
        raise UserError(f"unknown model {key!r}", ", ".join(REGISTRY), "name one of these models")
    return REGISTRY[key]
