"""The reference of the parity steps: a plain Hugging Face model with a hook from the formulas.

    boost  h + b * W_dec[k]
    clamp  h + (t - f_k) * W_dec[k],  f_k = JumpReLU(<h - b_in, W_enc[k]> + b_enc[k])

Written apart from :mod:`esr.steering`, which is what is tested; one request at a time, greedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from esr.models import ModelSpec
from esr.steering.interventions import Boost, Clamp, Intervention
from esr.steering.sae import Dictionary


class Plain:
    """A model on this machine's device, in the dtype of its entry."""

    def __init__(self, spec: ModelSpec, dictionary: Dictionary) -> None:
        from transformers import AutoModelForCausalLM

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = getattr(torch, spec.dtype)
        model: Any = AutoModelForCausalLM.from_pretrained(
            spec.hf_id, dtype=dtype, attn_implementation="eager"
        )
        self.model = model.to(self.device).eval()
        self.layer = self.model.model.layers[spec.steering_layer]
        self.rows = dictionary.bank(range(dictionary.d_sae)).to(self.device)

    @torch.inference_mode()
    def tokens(self, prompt: Sequence[int], steered: Sequence[Intervention], n: int) -> list[int]:
        """``n`` greedy tokens."""
        ids, cache, chosen = torch.tensor([list(prompt)], device=self.device), None, []
        handle = self.layer.register_forward_hook(self._hook(steered))
        try:
            for _ in range(n):
                output = self.model(ids, past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                chosen.append(int(output.logits[0, -1].argmax()))
                ids = torch.tensor([chosen[-1:]], device=self.device)
        finally:
            handle.remove()
        return chosen

    @torch.inference_mode()
    def regret(
        self, prompt: Sequence[int], steered: Sequence[Intervention], tokens: Sequence[int]
    ) -> float:
        """By how much the worst of given tokens lies below the best one, in logits: 0 if none."""
        ids = torch.tensor([[*prompt, *tokens]], device=self.device)
        handle = self.layer.register_forward_hook(self._hook(steered))
        try:
            logits = self.model(ids).logits[0, len(prompt) - 1 : -1].float()
        finally:
            handle.remove()
        given = logits.gather(1, torch.tensor(list(tokens), device=self.device)[:, None])
        return float((logits.amax(1, keepdim=True) - given).max())

    def _hook(self, steered: Sequence[Intervention]) -> Any:
        def hook(_module: Any, _args: Any, output: Any) -> Any:
            stream = output if isinstance(output, Tensor) else output[0]
            moved = stream.float()
            for item in steered:
                moved = moved + self._change(stream.float(), item)
            moved = moved.to(stream.dtype)
            return moved if isinstance(output, Tensor) else (moved, *output[1:])

        return hook

    def _change(self, stream: Tensor, item: Intervention) -> Tensor:
        rows = self.rows
        if isinstance(item, Boost):
            return item.value * rows.decoder[item.latent]
        assert isinstance(item, Clamp)
        k = item.latent
        before = (stream - rows.input_bias) @ rows.encoder[k] + rows.encoder_bias[k]
        active = before.clamp(min=0) * (before > rows.threshold[k])
        return (item.value - active)[..., None] * rows.decoder[k]
