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
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from esr.models.spec import Calibration
from esr.steering.layers import residual_of

if TYPE_CHECKING:
    from esr.engine.transformers import TransformersEngine

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
    """

    residual_norm: float
    decoder_norm: float
    n_tokens: int

    def calibration(self) -> Calibration:
        """The suggested prior, rounded to two digits."""
        mean = float(f"{self.residual_norm / self.decoder_norm:.2g}")
        return Calibration(10, 1, mean, mean, 0.0, float(f"{BOUNDS * mean:.3g}"))

    def toml(self) -> str:
        """As a table of a model file."""
        c = self.calibration()
        return (
            "[calibration]\n"
            f"rounds = {c.rounds}\nprompts_per_round = {c.prompts_per_round}\n"
            f"prior_mean = {c.prior_mean}\nprior_sd = {c.prior_sd}\n"
            f"low = {c.low}\nhigh = {c.high}"
        )


def measure(engine: TransformersEngine, texts: Sequence[Sequence[int]]) -> Suggestion:
    """Measure residual and decoder norms.

    Args:
        engine: the model, loaded.
        texts: token ids of prompts. Their first tokens are left out: many models give them a
            residual stream many times longer than any other's.
    """
    norms = torch.cat([_norms(engine, ids)[1:] for ids in texts])
    return Suggestion(
        float(norms.median()), float(engine.dictionary.decoder_norms().median()), len(norms)
    )


@torch.inference_mode()
def _norms(engine: TransformersEngine, token_ids: Sequence[int]) -> Tensor:
    """Length of the residual stream at the steering layer's output: [n_tokens] float32."""
    found: list[Tensor] = []

    def capture(_module: object, _args: object, output: Any) -> None:
        found.append(residual_of(output)[0].float().norm(dim=-1).cpu())

    handle = engine.layers[engine.steering_layer].register_forward_hook(capture)
    try:
        ids = torch.tensor([list(token_ids)], device=engine.device)
        engine.model(input_ids=ids, use_cache=False, logits_to_keep=1)
    finally:
        handle.remove()
    return found[0]
