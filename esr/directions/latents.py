"""Which latents of a dictionary a vector is closest to."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from esr.steering.sae import Dictionary


def nearest(
    dictionary: Dictionary,
    vector: Tensor,
    n: int,
    rows: Literal["decoder", "encoder"] | str = "decoder",
) -> list[tuple[int, float]]:
    """The latents whose rows have the largest cosine with a vector, largest first.

    Args:
        dictionary: streamed block by block.
        vector: [d_model].
        n: how many.
        rows: "decoder" says what a latent writes, "encoder" what it reads.
    """
    unit = vector.float() / vector.float().norm()
    cosines = []
    for _, bank in dictionary.blocks(decoder_rows=rows == "decoder"):
        matrix = bank.decoder if rows == "decoder" else bank.encoder
        lengths = matrix.norm(dim=1).clamp(min=1e-12)
        cosines.append(matrix @ unit / lengths)
    values, latents = torch.cat(cosines).topk(min(n, dictionary.d_sae))
    return list(zip(latents.tolist(), values.tolist(), strict=True))
