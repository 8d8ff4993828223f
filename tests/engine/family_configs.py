"""Model families: the class of their configuration in Transformers, and what it needs beside the
sizes they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.engine.engine_models import LAYERS, VOCABULARY

D_MODEL = 128
COMMON: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": D_MODEL,
    "intermediate_size": 256,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {"num_key_value_heads": 2, "head_dim": 32}
EXPERTS = {
    **GROUPED,
    "num_experts": 6,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 64,
}
LATENT_ATTENTION = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 32,
    "q_lora_rank": None,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 64,
    "n_shared_experts": 1,
}
MAMBA = {
    "mamba_n_heads": 8,
    "mamba_d_head": 32,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 256,
}

FAMILIES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "apertus": ("ApertusConfig", GROUPED),
    "arcee": ("ArceeConfig", GROUPED),
    "bamba": ("BambaConfig", {**GROUPED, **MAMBA, "attn_layer_indices": [1, 3]}),
    "bloom": ("BloomConfig", {}),
    "cohere": ("CohereConfig", {**GROUPED, "logit_scale": 1.0}),
    "cohere2": ("Cohere2Config", {**GROUPED, "logit_scale": 1.0}),
    "cwm": ("CwmConfig", GROUPED),
    "deepseek-v2": ("DeepseekV2Config", LATENT_ATTENTION),
    "deepseek-v3": ("DeepseekV3Config", LATENT_ATTENTION),
    "ernie4.5": ("Ernie4_5Config", GROUPED),
    "exaone4": ("Exaone4Config", {**GROUPED, "sliding_window": 4096}),
    "falcon": ("FalconConfig", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "gemma": ("GemmaConfig", GROUPED),
    "gemma2": ("Gemma2Config", {**GROUPED, "sliding_window": 48, "query_pre_attn_scalar": 32}),
    "gemma3": ("Gemma3TextConfig", {**GROUPED, "sliding_window": 48, "query_pre_attn_scalar": 32}),
    "glm": ("GlmConfig", GROUPED),
    "glm4": ("Glm4Config", GROUPED),
    "gpt-bigcode": ("GPTBigCodeConfig", {}),
    "gpt-neox": ("GPTNeoXConfig", {}),
    "gpt-oss": ("GptOssConfig", {**EXPERTS, "intermediate_size": 64}),
    "gpt2": ("GPT2Config", {}),
    "gptj": ("GPTJConfig", {"rotary_dim": 16, "n_inner": 256}),
    "granite": ("GraniteConfig", GROUPED),
    "granite-moe": ("GraniteMoeConfig", {**EXPERTS}),
    "granite4-hybrid": (
        "GraniteMoeHybridConfig",
        {
            **GROUPED,
            **MAMBA,
            "num_local_experts": 0,
            "shared_intermediate_size": 256,
            "layer_types": ["mamba", "attention", "mamba", "attention"],
        },
    ),
    "helium": ("HeliumConfig", GROUPED),
    "hunyuan": ("HunYuanDenseV1Config", GROUPED),
    "jamba": (
        "JambaConfig",
        {**GROUPED, "num_experts": 1, "attn_layer_period": 2, "attn_layer_offset": 1},
    ),
    "lfm2": ("Lfm2Config", {**GROUPED, "full_attn_idxs": [1, 3], "block_multiple_of": 1}),
    "llama": ("LlamaConfig", GROUPED),
    "mistral": ("MistralConfig", {**GROUPED, "sliding_window": 48}),
    "mixtral": ("MixtralConfig", EXPERTS),
    "mpt": ("MptConfig", {}),
    "nemotron": ("NemotronConfig", GROUPED),
    "olmo": ("OlmoConfig", {"num_key_value_heads": 2}),
    "olmo2": ("Olmo2Config", {"num_key_value_heads": 2}),
    "olmo3": ("Olmo3Config", {"num_key_value_heads": 2, "sliding_window": 48}),
    "olmoe": ("OlmoeConfig", {**EXPERTS}),
    "opt": ("OPTConfig", {"word_embed_proj_dim": D_MODEL, "ffn_dim": 256}),
    "persimmon": ("PersimmonConfig", {}),
    "phi": ("PhiConfig", {"num_key_value_heads": 2}),
    "phi3": ("Phi3Config", {"num_key_value_heads": 2, "sliding_window": 48}),
    "phimoe": ("PhimoeConfig", {**EXPERTS, "moe_intermediate_size": 256}),
    "qwen2": ("Qwen2Config", {"num_key_value_heads": 2}),
    "qwen2-moe": ("Qwen2MoeConfig", {**EXPERTS, "shared_expert_intermediate_size": 64}),
    "qwen3": ("Qwen3Config", GROUPED),
    "qwen3-moe": ("Qwen3MoeConfig", EXPERTS),
    "qwen3-next": (
        "Qwen3NextConfig",
        {
            **EXPERTS,
            "shared_expert_intermediate_size": 64,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 32,
            "linear_value_head_dim": 32,
        },
    ),
    "seed-oss": ("SeedOssConfig", GROUPED),
    "smollm3": ("SmolLM3Config", GROUPED),
    "stablelm": ("StableLmConfig", {"num_key_value_heads": 2}),
    "starcoder2": ("Starcoder2Config", {"num_key_value_heads": 2}),
}
"""Name -> configuration class of transformers, and what it needs beyond :data:`COMMON`."""
