"""Where the residual stream is in a layer's output: measured, for no attribute of a model says it.

vLLM's layers return one of three things, and two of them look alike:

    output                     next layer reads    e.g.
    -------------------------  ------------------  ------------------------------------------
    stream                     stream              Granite, GPT-2; OLMo-2 as [1, n, d_model]
    (hidden, residual)         hidden + residual   Llama, Gemma-2, Qwen
    (stream, stale residual)   stream              StableLM, Cohere, EXAONE-4

So a pair is disturbed twice while one short prompt is fed, and the last layer's end is compared
with that of an undisturbed pass. Moving a vector from one of the two to the other changes nothing
if the next layer reads their sum; adding it to the second alone changes nothing if that is stale.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

STREAM, SUM, FIRST = "the stream", "a pair to be added up", "a pair, the second stale"
"""The three, as docs/models.md names them."""

Streams = tuple[dict[int, str], dict[int, float], str]
"""Per hooked layer what it returns, and the median length of its rows; and a problem or ""."""

MOVED, ADDED = "moved", "added"
"""The two disturbances: from residual to hidden, or added to residual alone."""

CLEAR = 0.2
"""The smaller change must be below this share of the larger one. Measured in bf16 on random models
of 4 layers (Llama, Gemma-2, Qwen3-MoE, StableLM): at most 0.012, for rounding leaves something."""


def as_rows(tensor: Tensor) -> Tensor:
    """[n_rows, d_model], a view; vLLM's Transformers backend has a batch of one around it."""
    return tensor[0] if tensor.dim() == 3 and tensor.shape[0] == 1 else tensor


@dataclass
class StreamProbe:
    """The measurement on one worker: one pass undisturbed, then two for each hooked layer.

    Attributes:
        d_model: width of the stream.
        layers: those with a hook.
        disturbance: of the coming pass; empty for none.
        disturbed: the layer of the coming pass.
    """

    d_model: int
    layers: tuple[int, ...]
    disturbance: str = ""
    disturbed: int = -1
    _pairs: set[int] = field(default_factory=set)
    _norm: dict[int, float] = field(default_factory=dict)
    _ends: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    _problem: str = ""

    def touch(self, layer: int, hidden: Tensor, residual: Tensor | None) -> None:
        """Called with the output of a hooked layer; changes it where it is this pass's turn."""
        rows = as_rows(hidden)
        if rows.dim() != 2 or rows.shape[1] != self.d_model:
            self._problem = (
                f"layer {layer} returns {list(hidden.shape)}, not [n_tokens, {self.d_model}]"
            )
            return
        size = rows.float().norm(dim=1)
        if residual is not None:
            self._pairs.add(layer)
            size = size + as_rows(residual).float().norm(dim=1)
        if not self.disturbance:
            self._norm[layer] = float(size.median())
        elif residual is not None and layer == self.disturbed:
            generator = torch.Generator().manual_seed(0)
            kick = torch.randn(self.d_model, generator=generator).to(rows.device)
            kick = (kick * size.median() / kick.norm()).to(rows.dtype)
            as_rows(residual).add_(kick if self.disturbance == ADDED else -kick)
            if self.disturbance == MOVED:
                rows.add_(kick)

    def ended(self, last: Tensor) -> None:
        """Called with what the pass ends in: [n_sampled, d_model], after the last layer's norm."""
        self._ends[self.disturbance, self.disturbed] = last[-1].float().clone()

    def results(self) -> Streams:
        """What was measured, once all passes are done."""
        if self._problem:
            return {}, {}, self._problem
        if set(self._norm) != set(self.layers):
            return {}, {}, f"the hooks ran at layers {sorted(self._norm)}, not {list(self.layers)}"
        passes = [("", -1), *((d, i) for i in self._pairs for d in (MOVED, ADDED))]
        if not all(name in self._ends for name in passes):
            return {}, {}, "what a pass ends in was not seen"
        forms = dict.fromkeys(self.layers, STREAM)
        plain = self._ends["", -1]
        for layer in self._pairs:
            moved = float((self._ends[MOVED, layer] - plain).norm())
            alone = float((self._ends[ADDED, layer] - plain).norm())
            if not min(moved, alone) < CLEAR * max(moved, alone):
                problem = (
                    f"layer {layer} returns a pair that the next layer neither adds up nor reads "
                    f"the first of (moved {moved:.3g}, added {alone:.3g})"
                )
                return {}, {}, problem
            forms[layer] = SUM if moved < alone else FIRST
        return forms, self._norm, ""
