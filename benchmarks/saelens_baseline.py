"""SAELens' ``HookedSAETransformer.generate`` with a steering hook, on the weights of a Llama."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from esr.models import ModelSpec
from esr.steering.sae import Dictionary


def tokens_per_second(
    spec: ModelSpec,
    dictionary: Dictionary,
    prompts: Sequence[Sequence[int]],
    latents: Sequence[int],
    new_tokens: int,
) -> float:
    """Generate for all prompts in one batch, each row boosted by a latent of its own.

    Favourable to SAELens: prompts of one length, all responses equally long, greedy, no penalty.

    Raises:
        ValueError: the converted model does not agree with Hugging Face's, or is no Llama.
    """
    model = _hooked(spec)
    added = dictionary.bank(latents).decoder.to(model.cfg.device, model.cfg.dtype)

    def steer(residual: Tensor, hook: Any) -> Tensor:
        del hook
        return residual + added[:, None]

    batch = torch.tensor([list(prompt) for prompt in prompts], device=model.cfg.device)
    name = f"blocks.{spec.steering_layer}.hook_resid_post"
    options = {"do_sample": False, "stop_at_eos": False, "verbose": False}
    with torch.inference_mode(), model.hooks(fwd_hooks=[(name, steer)]):
        model.generate(batch, max_new_tokens=2, **options)
        start = time.perf_counter()
        model.generate(batch, max_new_tokens=new_tokens, **options)
        elapsed = time.perf_counter() - start
    return len(prompts) * new_tokens / elapsed


def _hooked(spec: ModelSpec) -> Any:
    from sae_lens import HookedSAETransformer
    from transformer_lens.config.hooked_transformer_config import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights
    from transformers import AutoModelForCausalLM

    dtype = getattr(torch, spec.dtype)
    source = AutoModelForCausalLM.from_pretrained(spec.hf_id, dtype=dtype)
    config = source.config
    if config.model_type != "llama":
        raise ValueError(f"{spec.key} is a {config.model_type}: only Llama weights are converted")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cfg = HookedTransformerConfig(
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        n_ctx=spec.context,
        d_head=config.head_dim,
        n_heads=config.num_attention_heads,
        n_key_value_heads=config.num_key_value_heads,
        d_mlp=config.intermediate_size,
        d_vocab=config.vocab_size,
        eps=config.rms_norm_eps,
        act_fn="silu",
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_adjacent_pairs=False,
        rotary_dim=config.head_dim,
        rotary_base=config.rope_parameters["rope_theta"],
        final_rms=True,
        gated_mlp=True,
        dtype=dtype,
        device=device,
    )
    model = HookedSAETransformer(cfg)
    model.load_state_dict(convert_llama_weights(source, cfg), strict=False)
    probe = torch.arange(5, 25, device=device)[None]
    with torch.inference_mode():
        ours, theirs = model(probe), source.to(device)(probe).logits
    if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max())):
        raise ValueError("the model converted for SAELens computes something else")
    return model
