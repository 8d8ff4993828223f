"""The one function that steers a batch: two products and a scatter.

With ``X`` the rows to be steered, ``E`` and ``D`` what the rows in play read and write:

    P = activations of X on E               [n_rows, n_in_play]     a product
    G = constant + gain * P                 [n_rows, n_in_play]     open slots
      + g where low <= p < high             added where it belongs  gated slots, a scatter
    X + G @ D                                                       a product

A request's open slots that read what they write, or nothing, are two numbers per row in play:
boosts, clamps and scales are. All others are *gated slots*: they take their ``p`` from the column
that they read and add ``constant + gain * p`` to the one that they write. In float32 throughout.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from esr.steering.rows import SaeRows, activate


@dataclass(frozen=True)
class Gates:
    """Gated slots; with one line for all rows, or one per row.

    Attributes:
        columns: [n_lines, 2, n_slots] int64, which row in play a slot writes, and reads.
        numbers: [n_lines, 4, n_slots] float32: constant, gain, low, high. A slot that a line does
            not have is never open.
    """

    columns: Tensor
    numbers: Tensor

    def add(self, coefficient: Tensor, p: Tensor) -> Tensor:
        """``coefficient`` with what the slots add; it and ``p``: [n_rows, n_in_play]."""
        n_rows = p.shape[0]
        write, reads = (part.expand(n_rows, -1) for part in self.columns.unbind(1))
        constant, gain, low, high = self.numbers.unbind(1)
        read = p.gather(1, reads)
        open_ = (read >= low) & (read < high)
        amount = torch.where(open_, torch.addcmul(constant, gain, read), 0.0)
        return coefficient.expand(n_rows, -1).scatter_add(1, write, amount)


def steer(
    stream: Tensor, rows: SaeRows, constant: Tensor, gain: Tensor | None, gates: Gates | None
) -> Tensor:
    """Steer a residual stream.

    Args:
        stream: [n_rows, d_model], unsteered; not modified.
        rows: in play, without input bias.
        constant: [n_rows or 1, n_in_play] float32.
        gain: the same shape; None where no open slot reads.
        gates: None where no slot is gated.

    Returns:
        [n_rows, d_model], same dtype as ``stream``.
    """
    exact = stream.float()
    coefficient = constant
    if gain is not None or gates is not None:
        pre = torch.addmm(rows.encoder_bias, exact, rows.encoder.T)
        p = activate(pre, rows.threshold)
        if gain is not None:
            coefficient = torch.addcmul(constant, gain, p)
        if gates is not None:
            coefficient = gates.add(coefficient, p)
    if coefficient.shape[0] == 1:
        return (exact + coefficient @ rows.decoder).to(stream.dtype)
    return torch.addmm(exact, coefficient, rows.decoder).to(stream.dtype)
