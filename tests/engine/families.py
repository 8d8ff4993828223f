"""Tiny random models of many families, steered in vLLM and with a plain Hugging Face hook.

``python -m tests.engine.families`` runs all of them, each in a process of its own, and writes
docs/models.md; with names, those alone, and writes nothing. ``make test`` runs a few of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from esr.engine.base import ReadRequest
from esr.engine.options import VllmOptions
from esr.errors import EngineError, UserError
from esr.models import Calibration, ModelSpec, SaeSource
from esr.steering.directions import store
from tests.engine.engine_models import (
    CONTEXT,
    D_SAE,
    LAYERS,
    MORE_LAYERS,
    VOCABULARY,
    build_dictionary,
    build_direction,
    mixed_requests,
    slot_requests,
    tokenizer,
)
from tests.engine.plain_hook import PlainHook

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "models.md"

N_REQUESTS, N_SLOTS = 30, 14
"""In all, and of those with slots, layers, scopes and given prefixes."""

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


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One row of docs/models.md.

    Attributes:
        architecture: the class vLLM runs it with.
        returns: what its layers return, see :mod:`esr.steering.stream`.
        equal: requests of :data:`N_REQUESTS` whose tokens equal the plain hook's.
        power: requests whose tokens change where the plain hook is left out, of ``steered``.
        alone: largest difference of an unsteered read's activations, relative to the largest:
            how far vLLM's model itself is from Hugging Face's.
        reads: the same of all reads.
        refused: by our self-test or hook, and why.
        not_started: vLLM's reason.
    """

    family: str
    architecture: str = ""
    returns: str = ""
    equal: int = 0
    steered: int = 0
    power: int = 0
    alone: float = 0.0
    reads: float = 0.0
    refused: str = ""
    not_started: str = ""

    @property
    def fine(self) -> bool:
        """Whether steering and reads are right in vLLM."""
        return self.equal == N_REQUESTS and self.reads < max(1e-4, 3 * self.alone)


def build(family: str, folder: Path) -> ModelSpec:
    """Write a random float32 model of a family with its tokenizer; the same bytes every time."""
    import transformers

    name, options = FAMILIES[family]
    config = getattr(transformers, name)(**{**COMMON, **options})
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Wide weights make sharp distributions. Tied embeddings stay small, or every token would
    # predict itself.
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for label, weight in model.named_parameters():
        if weight.dim() >= 2:
            embedding = "embed" in label or "wte" in label
            std = (0.02 if tied else 1.0) if embedding else weight.shape[-1] ** -0.5
            torch.nn.init.normal_(weight, std=std)
        elif label.endswith(("norm.weight", ".bias")):
            torch.nn.init.normal_(weight, mean=float(label.endswith("weight")), std=0.1)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return ModelSpec(
        key=family,
        title=family,
        hf_id=str(folder),
        sae=SaeSource(),
        steering_layer=1,
        feature_layer=2,
        d_model=D_MODEL,
        d_sae=D_SAE,
        calibration=Calibration(1, 1, 1.0, 1.0, 0.0, 1.0),
        context=CONTEXT,
        dtype="float32",
    )


async def compare(family: str, folder: Path) -> Outcome:
    """A mixed batch of :data:`N_REQUESTS` and nine reads, in vLLM and with the plain hook."""
    from esr.engine.vllm import VllmEngine

    torch.set_num_threads(1)
    spec = build(family, folder / "model")
    dictionary = build_dictionary(folder / "rows.safetensors", D_MODEL)
    direction = build_direction(D_MODEL)
    store(direction)
    plain = mixed_requests(N_REQUESTS - N_SLOTS, seed=20, scale=30.0)
    slots = slot_requests(N_SLOTS, direction.digest, seed=21, scale=30.0)
    requests = [*plain, *slots]
    reads = [
        ReadRequest(
            request.request_id,
            request.prompt_token_ids,
            (7, 3, 250),
            request.interventions,
            n_prompt=len(request.prompt_token_ids) // 2,
        )
        for request in (*plain[:3], *slots[:6])
    ]
    # The reference first: vLLM's Transformers backend decorates Hugging Face's classes.
    hook = PlainHook(spec, dictionary.bank(range(D_SAE)), {direction.digest: direction.vectors})
    expected = [hook.generate(request) for request in requests]
    unsteered = [hook.generate(dataclasses.replace(r, interventions=())) for r in requests]
    activations = [hook.read(read) for read in reads]
    try:
        engine = VllmEngine(spec, dictionary, VllmOptions(16, in_process=True, layers=MORE_LAYERS))
    except UserError as error:
        return Outcome(family, not_started=error.problem[:300].split(" (details")[0])
    try:
        architecture, returns = await engine.streams()
        answers = await asyncio.gather(*(engine.generate(request) for request in requests))
        readings = [await engine.read(read) for read in reads]
    except UserError as error:
        return Outcome(family, refused=error.problem)
    except EngineError as error:
        return Outcome(family, not_started=str(error))
    finally:
        await engine.close()
    differences = [
        float((reading.values - values).abs().max() / values.abs().max())
        for reading, values in zip(readings, activations, strict=True)
        if reading.values is not None
    ]
    return Outcome(
        family,
        architecture,
        returns,
        equal=sum(a.token_ids == b for a, b in zip(answers, expected, strict=True)),
        steered=sum(bool(request.interventions) for request in requests),
        power=sum(a != b for a, b in zip(expected, unsteered, strict=True)),
        alone=differences[0],
        reads=max(differences),
    )


def in_own_process(family: str) -> Outcome:
    """The same in a process of its own, so that no family disturbs another. It is forked, because
    importing vLLM takes longer than all the rest."""
    import vllm.v1.engine.llm_engine

    del vllm
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_compare_and_send, args=(family, send))
    child.start()
    send.close()
    try:
        return cast("Outcome", receive.recv())
    except EOFError:
        child.join()
        return Outcome(family, not_started=f"its process ended with status {child.exitcode}")


def _compare_and_send(family: str, send: Connection) -> None:
    with tempfile.TemporaryDirectory() as folder, send:
        try:
            send.send(asyncio.run(compare(family, Path(folder))))
        except Exception as error:
            send.send(Outcome(family, not_started=f"{type(error).__name__}: {error}"[:300]))


def document(outcomes: Sequence[Outcome]) -> str:
    """docs/models.md."""
    import transformers
    import vllm

    lines = [
        "# Model families that were tested",
        "",
        "Written by `make models`; a model of a family that is not here is tested by the engine "
        "itself before its",
        "first request (`esr/engine/self_test.py`), and refused if it fails.",
        "",
        f"Each family is a random float32 model ({LAYERS} layers, width {D_MODEL}) steered at "
        f"layer 1 by a random JumpReLU SAE of {D_SAE}",
        f"latents: {N_REQUESTS} greedy requests in one batch (unsteered, boosted, clamped, "
        f"scaled, mixed; prompts of 3 to 70 tokens; {N_SLOTS}",
        "of them with gated slots, a fitted direction, a rotation, several layers, scopes and "
        "given prefixes),",
        "compared token for token with a Hugging Face hook written from the definitions, one "
        "request at a time. *Power*: steered",
        "requests whose tokens change when the hook is left out. *Reads*: largest difference of "
        "a latent read at layer 2, relative",
        "to the largest activation; *alone*: the same without steering, which is how far vLLM's "
        "model is from Hugging Face's.",
        "In bold: not equal. *Returns*: what a layer returns in vLLM, measured "
        "(`esr/steering/stream.py`).",
        "",
        f"vLLM {vllm.__version__} on the CPU, transformers {transformers.__version__}, torch "
        f"{torch.__version__}; {time.strftime('%d %b %Y')}. Nothing here was run on a GPU.",
        "",
        "| family | class in vLLM | returns | equal | power | alone | reads |",
        "|---|---|---|---|---|---|---|",
    ]
    ran = [o for o in outcomes if not o.refused and not o.not_started]
    lines += [
        f"| {o.family} | {o.architecture} | {o.returns} | "
        f"{'' if o.fine else '**'}{o.equal}/{N_REQUESTS}{'' if o.fine else '**'} | "
        f"{o.power}/{o.steered} | {o.alone:.0e} | {o.reads:.0e} |"
        for o in ran
    ]
    for title, attribute in (
        ("Refused by our tests", "refused"),
        ("Not run by this vLLM, with its reason", "not_started"),
    ):
        rows = [o for o in outcomes if getattr(o, attribute)]
        if rows:
            lines += ["", f"## {title}", "", "| family | reason |", "|---|---|"]
            lines += [f"| {o.family} | {getattr(o, attribute).replace('|', '/')} |" for o in rows]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """All families, or those named."""
    torch.set_num_threads(1)
    outcomes = []
    for family in arguments or FAMILIES:
        outcomes.append(in_own_process(family))
        print(outcomes[-1], flush=True)
    if not arguments:
        DOCUMENT.write_text(document(outcomes), encoding="utf-8")
    return int(any(not (o.fine or o.refused or o.not_started) for o in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
