"""Hugging Face, one request at a time, with hooks written from the definitions alone.

Nothing of :mod:`esr.steering` is used but the data: what the engines make of a request must
be what stands here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from esr.engine.base import GenerationRequest, ReadRequest
from esr.models import ModelSpec
from esr.steering.interventions import Boost, Clamp, Intervention, Row, Scale, Slot
from esr.steering.layers import decoder_layers
from esr.steering.rows import SaeRows

N_LAYERS = 4


class PlainHook:
    """One model.

    Args:
        spec: of a model of :data:`N_LAYERS` layers.
        rows: the whole dictionary.
        vectors: of directions, by digest: [n, d_model].
    """

    def __init__(
        self, spec: ModelSpec, rows: SaeRows, vectors: dict[str, Tensor] | None = None
    ) -> None:
        from transformers import AutoModelForCausalLM

        self.spec, self.rows, self.vectors = spec, rows, vectors or {}
        self.model = AutoModelForCausalLM.from_pretrained(
            spec.hf_id, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.layers = decoder_layers(self.model, N_LAYERS)
        self._answers: dict[GenerationRequest, tuple[int, ...]] = {}

    def activation(self, stream: Tensor, row: Row) -> Tensor:
        """f_k = ReLU(pre) where pre > threshold, pre = (h - b_in) . W_enc[k] + b_enc[k]; of a
        direction <h, v>."""
        if row.digest:
            return stream @ self.vectors[row.digest][row.number]
        rows, k = self.rows, row.number
        pre = (stream - rows.input_bias) @ rows.encoder[k] + rows.encoder_bias[k]
        return torch.where(pre > rows.threshold[k], pre.clamp(min=0), 0.0)

    def written(self, row: Row) -> Tensor:
        """The decoder row, or the vector."""
        return self.vectors[row.digest][row.number] if row.digest else self.rows.decoder[row.number]

    def change(self, stream: Tensor, item: Intervention) -> Tensor:
        """What one intervention adds to every row: [..., d_model]."""
        if isinstance(item, Slot):
            p = torch.zeros_like(stream[..., 0])
            if item.read is not None:
                p = self.activation(stream, item.read)
            amount = item.boost + item.target + item.gain * p
            amount = torch.where((item.low <= p) & (p < item.high), amount, 0.0)
            return amount[..., None] * self.written(item.write)
        f = self.activation(stream, Row(item.latent))
        if isinstance(item, Boost):
            amount = torch.full_like(f, item.value)
        elif isinstance(item, Clamp):
            amount = item.value - f
        else:
            assert isinstance(item, Scale)
            amount = (item.value - 1) * f
        return amount[..., None] * self.rows.decoder[item.latent]

    def steer(
        self, items: Sequence[Intervention], n_prompt: int, n_prefix: int, scope: str
    ) -> list[Any]:
        """Hooks for one text, fed piece by piece; returns their handles."""
        handles = []
        for number, module in enumerate(self.layers):
            here = [
                item
                for item in items
                if (self.spec.steering_layer if item.layer is None else item.layer) == number
            ]
            if here:
                hook = self._hook(here, n_prompt, n_prefix, scope)
                handles.append(module.register_forward_hook(hook))
        return handles

    def _hook(self, items: Sequence[Intervention], n_prompt: int, n_prefix: int, scope: str) -> Any:
        fed = 0

        def hook(_module: Any, _args: Any, output: Any) -> Any:
            nonlocal fed
            stream = output[0] if isinstance(output, tuple) else output
            at = torch.arange(fed, fed + stream.shape[1])
            fed += stream.shape[1]
            total = torch.zeros_like(stream)
            for item in items:
                inside = within(at, item.scope, n_prompt, n_prefix)
                inside = inside & within(at, scope, n_prompt, n_prefix)
                total = total + self.change(stream, item) * inside[None, :, None]
            return (stream + total, *output[1:]) if isinstance(output, tuple) else stream + total

        return hook

    def generate(self, request: GenerationRequest) -> tuple[int, ...]:
        """The response: given prefix and greedy tokens; worked out once."""
        if request not in self._answers:
            self._answers[request] = self._generate(request)
        return self._answers[request]

    @torch.inference_mode()
    def _generate(self, request: GenerationRequest) -> tuple[int, ...]:
        given = torch.tensor([request.prompt_token_ids + request.prefix_token_ids])
        n_prompt, n_prefix = len(request.prompt_token_ids), len(request.prefix_token_ids)
        handles = self.steer(request.interventions, n_prompt, n_prefix, request.scope)
        try:
            tokens = self.model.generate(
                given,
                attention_mask=torch.ones_like(given),
                do_sample=False,
                max_new_tokens=request.sampling.max_tokens,
                repetition_penalty=request.sampling.repetition_penalty,
                eos_token_id=2,
                pad_token_id=0,
            )
        finally:
            for handle in handles:
                handle.remove()
        return tuple(tokens[0, n_prompt:].tolist())

    @torch.inference_mode()
    def read(self, request: ReadRequest) -> Tensor:
        """Activations of the request's latents at the feature layer: [n_tokens, n_latents]."""
        streams: list[Tensor] = []
        n_prompt = request.n_prompt or 0
        handles = self.steer(request.interventions, n_prompt, request.n_prefix, "all")
        handles.append(
            self.layers[self.spec.feature_layer].register_forward_hook(
                lambda _m, _a, out: streams.append(out[0] if isinstance(out, tuple) else out)
            )
        )
        self.model(torch.tensor([request.token_ids]), use_cache=False)
        for handle in handles:
            handle.remove()
        read = [self.activation(streams[0][0], Row(latent)) for latent in request.latents or ()]
        return torch.stack(read, dim=1)[request.first_token :]


def within(at: Tensor, scope: str, n_prompt: int, n_prefix: int) -> Tensor:
    """Which positions a scope has: [n] bool."""
    if scope.startswith("until "):
        return at < n_prompt + int(scope.removeprefix("until "))
    return {
        "all": at >= 0,
        "prompt": at < n_prompt,
        "prefix": at < n_prompt + n_prefix,
        "generated": at >= n_prompt,
        "after prefix": at >= n_prompt + n_prefix,
    }[scope]
