"""Rows in play: what is read from a residual stream and written to it, as matrices.

A latent and a fitted direction differ in how they are read: a latent by its encoder row, bias and
threshold, a direction ``v`` by the projection ``<h, v>``. A projection is a latent with encoder row
``v``, no bias and the threshold minus infinity, so both lie in the same matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SaeRows:
    """The rows of a few latents or directions; never the whole dictionary.

    Attributes:
        encoder: [n_rows, d_model] float32, what is read.
        encoder_bias: [n_rows] float32.
        threshold: [n_rows] float32, JumpReLU threshold; 0 for a ReLU SAE, -inf for a direction.
        decoder: [n_rows, d_model] float32, what is written.
        input_bias: [d_model] float32, subtracted before encoding; 0 where the SAE has none.
    """

    encoder: Tensor
    encoder_bias: Tensor
    threshold: Tensor
    decoder: Tensor
    input_bias: Tensor

    @property
    def n_rows(self) -> int:
        return int(self.encoder.shape[0])

    def to(self, device: torch.device | str) -> SaeRows:
        """The same rows on ``device``."""
        return SaeRows(
            self.encoder.to(device),
            self.encoder_bias.to(device),
            self.threshold.to(device),
            self.decoder.to(device),
            self.input_bias.to(device),
        )

    def encode(self, residual: Tensor) -> Tensor:
        """Activations of all rows.

        Args:
            residual: [n_tokens, d_model].

        Returns:
            [n_tokens, n_rows] float32.
        """
        centred = residual.float() - self.input_bias
        return activate(centred @ self.encoder.T + self.encoder_bias, self.threshold)

    def centred(self) -> SaeRows:
        """The same rows with the input bias inside the encoder's bias."""
        shift = (self.encoder.double() @ self.input_bias.double()).float()
        bias, none = self.encoder_bias - shift, torch.zeros_like(self.input_bias)
        return SaeRows(self.encoder, bias, self.threshold, self.decoder, none)


def of_vectors(vectors: Tensor) -> SaeRows:
    """Directions as rows; ``vectors``: [n, d_model] float32."""
    n, width = vectors.shape
    none = vectors.new_full((n,), -torch.inf)
    return SaeRows(vectors, vectors.new_zeros(n), none, vectors, vectors.new_zeros(width))


def activate(pre: Tensor, threshold: Tensor) -> Tensor:
    """JumpReLU; ReLU where the threshold is 0, nothing where it is -inf.

    ``pre`` and the result: [..., n_rows].
    """
    return torch.where(pre > threshold, pre, 0.0)
