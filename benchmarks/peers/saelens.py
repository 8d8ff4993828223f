"""A Hugging Face Llama as SAELens' ``HookedSAETransformer``, with the same weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch


def hooked(source: Any) -> Any:
    """Convert a loaded Llama.

    Raises:
        ValueError: the converted model does not agree with Hugging Face's, or is no Llama.
    """
    from sae_lens import HookedSAETransformer
    from transformer_lens.config.hooked_transformer_config import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions.llama import convert_llama_weights

    config = source.config
    if config.model_type != "llama":
        raise ValueError(f"a {config.model_type}: only Llama weights are converted")
    cfg = HookedTransformerConfig(
        n_layers=config.num_hidden_layers,
        d_model=config.hidden_size,
        n_ctx=min(config.max_position_embeddings, 2048),
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
        dtype=source.dtype,
        device=str(source.device),
    )
    with warnings.catch_warnings():
        # TransformerLens deprecates the class that SAELens' own is derived from.
        warnings.simplefilter("ignore", DeprecationWarning)
        model = HookedSAETransformer(cfg)
    model.load_state_dict(convert_llama_weights(source, cfg), strict=False)
    probe = torch.arange(5, 25, device=source.device)[None]
    with torch.inference_mode():
        ours, theirs = model(probe), source(probe).logits
    if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2 * float(theirs.abs().max())):
        raise ValueError("the model converted for SAELens computes something else")
    return model
