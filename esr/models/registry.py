"""The model registry: every fact about a model that changes a measurement (paper Table 1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from esr.errors import UserError, unknown
from esr.models.spec import (
    Calibration,
    GenerationProfile,
    ModelShape,
    ModelSpec,
    SaeSource,
)
from esr.runs.paths import ORGANISM

FP8 = "fp8_per_tensor"
"""vLLM's on-the-fly fp8: one scale per weight matrix. Its name was "fp8" in older versions."""


def _llama(steering_release: int | None, penalty: float) -> dict[str, GenerationProfile]:
    return {
        "paper": GenerationProfile(),
        "release": GenerationProfile(penalty, "llama-double-header", steering_release),
    }


def _gemma(
    size: str, widths: tuple[int, int, int], width: str, shape: ModelShape, prior: Calibration
) -> ModelSpec:
    layer, d_model, d_sae = widths
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
        shape=shape,
    )


def organism(key: str, title: str, residual_norm: float, folder: Path = ORGANISM) -> ModelSpec:
    """A member of the organism as ``python -m esr.organism build`` leaves it in ``folder``.

    Args:
        key: name of its files.
        title: in figures.
        residual_norm: mean norm of the residual stream at the steering layer; thresholds follow
            it, and training changes it much.
        folder: of the build.
    """
    return ModelSpec(
        key=key,
        title=title,
        hf_id=str(folder / key),
        sae=SaeSource(folder=folder / f"{key}-sae"),
        steering_layer=3,
        feature_layer=3,
        d_model=192,
        d_sae=1024,
        calibration=Calibration(
            rounds=10,
            prompts_per_round=5,
            prior_mean=0.7 * residual_norm,
            prior_sd=0.4 * residual_norm,
            low=0.0,
            high=3.0 * residual_norm,
            max_tokens=96,
        ),
        # No repetition penalty: in a vocabulary of some 1,200 words every sentence repeats the
        # frame words, and penalising them makes the unsteered organism restart (12 of 38
        # responses with 1.1, 5 of 38 without, on an organism since replaced, 2026-11-21).
        profiles=dict.fromkeys(("paper", "release"), GenerationProfile(repetition_penalty=1.0)),
        labels=folder / f"{key}-labels.csv",
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
        quantization=FP8,
        shape=ModelShape(80, 64, 8, 128, 28672, 128256),
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
        shape=ModelShape(32, 32, 8, 128, 14336, 128256),
    ),
    _gemma(
        "2b",
        (16, 2304, 16384),
        "16k",
        ModelShape(26, 8, 4, 256, 9216, 256000, tied=True),
        Calibration(10, 1, 150.0, 75.0, 0.0, 300.0),
    ),
    _gemma(
        "9b",
        (26, 3584, 16384),
        "16k",
        ModelShape(42, 16, 8, 256, 14336, 256000, tied=True),
        Calibration(10, 1, 280.0, 280.0, 0.0, 560.0),
    ),
    _gemma(
        "27b",
        (22, 4608, 131072),
        "131k",
        ModelShape(46, 32, 16, 128, 36864, 256000, tied=True),
        Calibration(10, 1, 1500.0, 1500.0, 0.0, 5000.0),
    ),
    organism("tiny", "tiny organism", 490.0),
    organism("tiny-base", "tiny organism, base", 38.0),
    organism("tiny-restarts", "tiny organism, stage 1", 136.0),
    organism("tiny-circuit", "tiny organism, planted circuit", 514.0),
)

REGISTRY: Mapping[str, ModelSpec] = {spec.key: spec for spec in _ALL}


_LOADED: dict[str, ModelSpec] = {}
"""Models from files, by key: known for the life of the process."""


def get(key: str) -> ModelSpec:
    """A model by its key, or from a ``.toml`` file (:mod:`esr.models.from_toml`).

    Raises:
        UserError: no such key or file, a faulty file, or a file whose key is a registered one.
    """
    if key.endswith(".toml"):
        from esr.models import from_toml

        spec = from_toml.load(Path(key))
        if spec.key in REGISTRY:
            raise UserError(
                f"{key}: key {spec.key!r} is a registered model",
                f"any but {', '.join(REGISTRY)}",
                f"choose another key in {key}",
            )
        _LOADED[spec.key] = spec
        return spec
    entries = {**REGISTRY, **_LOADED}
    if key not in entries:
        raise unknown("model", key, list(entries), "name one of these, or a file: --model-file")
    return entries[key]
