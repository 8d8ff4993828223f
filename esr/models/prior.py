"""Where to start calibrating a new model: a boost about as long as the residual stream.

A boost ``b`` adds a vector of length ``b`` times that of the decoder row. The model answers as if
nothing had happened where that is short against the residual stream, and with noise where it is
much longer, so the threshold lies around the ratio of the two lengths. The suggestion is that
ratio, with a standard deviation as large and bounds of 0 and five times it, as the paper's prior
of Llama-3.1-8B has them (10, 10, 0 to 50; A.1.4). It is a starting point: look at the first
thresholds, and widen the bounds if they lie at one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from esr.models.spec import Calibration, ModelSpec
from esr.models.weights import check_layers, load_config, load_weights
from esr.steering.layers import decoder_layers, residual_of
from esr.steering.sae import Dictionary

N_PROMPTS = 8
"""Questions whose residual streams are measured."""

BOUNDS = 5.0
"""Upper bound of the threshold, in suggested means."""


@dataclass(frozen=True)
class Suggestion:
    """A prior and what it rests on.

    Attributes:
        residual_norm: median length of the residual stream at the steering layer's output.
        decoder_norm: median length of a decoder row.
        n_tokens: positions measured.
        max_tokens: cap of a calibration response: the paper's 256, or the model's own if lower.
    """

    residual_norm: float
    decoder_norm: float
    n_tokens: int
    max_tokens: int = Calibration.max_tokens

    def calibration(self) -> Calibration:
        """The suggested prior, rounded to two digits."""
        mean = float(f"{self.residual_norm / self.decoder_norm:.2g}")
        return Calibration(10, 1, mean, mean, 0.0, float(f"{BOUNDS * mean:.3g}"), self.max_tokens)

    def toml(self) -> str:
        """As a table of a model file."""
        c = self.calibration()
        return (
            "[calibration]\n"
            f"rounds = {c.rounds}\nprompts_per_round = {c.prompts_per_round}\n"
            f"prior_mean = {c.prior_mean}\nprior_sd = {c.prior_sd}\n"
            f"low = {c.low}\nhigh = {c.high}\nmax_tokens = {c.max_tokens}"
        )


def measure(spec: ModelSpec, dictionary: Dictionary, texts: Sequence[Sequence[int]]) -> Suggestion:
    """Load the model with Hugging Face and measure residual and decoder norms.

    Args:
        spec: the model; its steering layer is measured.
        dictionary: its SAE.
        texts: token ids of prompts. Their first tokens are left out: many models give them a
            residual stream many times longer than any other's.

    Raises:
        UserError: the model does not load, lacks the layer, or has another width.
    """
    config = load_config(spec)
    check_layers(spec, config, dictionary.d_model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_weights(spec, device)
    layer = decoder_layers(model, config.num_hidden_layers)[spec.steering_layer]
    norms = torch.cat(
        [_norms(model, layer, torch.tensor([list(ids)], device=device))[1:] for ids in texts]
    )
    decoder_norm = float(dictionary.decoder_norms().median())
    cap = min(Calibration.max_tokens, spec.max_tokens)
    return Suggestion(float(norms.median()), decoder_norm, len(norms), cap)


@torch.inference_mode()
def _norms(model: Any, layer: Module, token_ids: Tensor) -> Tensor:
    """Length of the residual stream at the layer's output: [n_tokens] float32."""
    norms: list[Tensor] = []

    def capture(_module: object, _args: object, output: Any) -> None:
        norms.append(residual_of(output)[0].float().norm(dim=-1).cpu())

    handle = layer.register_forward_hook(capture)
    try:
        model(input_ids=token_ids, use_cache=False, logits_to_keep=1)
    finally:
        handle.remove()
    return norms[0]
