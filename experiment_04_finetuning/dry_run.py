"""``--dry-run``: what writing and training would take. Estimates, each with what it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from esr import judge
from esr.judge import prices
from esr.judge.prices import Usage
from esr.models import ModelShape, ModelSpec
from experiment_04_finetuning.examples import items
from experiment_04_finetuning.settings import TEMPLATE, LoraSettings
from experiment_04_finetuning.sweep import Sweep

ASSUMED_TOKENS = 300
"""Of an example of a large model: two to eight sentences and the template's headers. Assumed."""

ASSUMED_FLOPS = 100e12
"""Sustained per second in bfloat16 on one H100, a tenth of its peak: batches are short. Assumed."""

ASKED, ANSWERED = 1200, 900
"""Characters of one request for an example and of its answer. Assumed."""


def lora_parameters(spec: ModelSpec, shape: ModelShape, rank: int) -> int:
    """Of an update of every linear layer: rank times its inputs and outputs."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = 2 * (spec.d_model + queries) + 2 * (spec.d_model + keys)
    return rank * shape.layers * (attention + 3 * (spec.d_model + shape.ffn))


def steps(sweep: Sweep) -> int:
    """Optimiser steps of one training on a full mix."""
    training = sweep.data.examples - round(sweep.data.examples * sweep.data.validation)
    passes = math.ceil(training / sweep.lora.batch)
    return math.ceil(passes / sweep.lora.accumulation) * sweep.lora.epochs


def gpu_memory(spec: ModelSpec, shape: ModelShape, settings: LoraSettings, tokens: int) -> float:
    """GiB that one training needs on a GPU, by count of bytes.

    Args:
        spec: the model; its weights are bfloat16.
        shape: of its layers.
        settings: rank, batch, checkpointing.
        tokens: length of the examples of a batch.
    """
    weights = spec.parameters * 1e9 * 2
    # Float32 weights, gradients and two moments of Adam.
    adapter = lora_parameters(spec, shape, settings.lora_rank) * 16
    # Per token and layer: outputs in bfloat16, and the updates' inputs once more in float32.
    layer = 2 * (8 * spec.d_model + 4 * shape.ffn) + 4 * (6 * spec.d_model + shape.ffn)
    stored = 2 * spec.d_model if settings.gradient_checkpointing else layer
    logits = shape.vocabulary * 10
    held = layer if settings.gradient_checkpointing else 0
    per_batch = settings.batch * tokens * (shape.layers * stored + held + logits)
    return (weights + adapter + per_batch) / 2**30


def writing_estimate(sweep: Sweep) -> prices.Estimate:
    """What a language model would cost that writes all examples."""
    model = judge.resolve(sweep.data.writer)
    count = len(items(sweep.prompts.prompts, sweep.subjects, sweep.data, sweep.seed))
    usage = Usage(
        input_tokens=count * prices.estimate_tokens(ASKED),
        output_tokens=count * prices.estimate_tokens(ANSWERED),
    )
    cost = prices.dollars(model, usage) if prices.price(model) is not None else None
    return prices.Estimate(count, usage.input_tokens, usage.output_tokens, cost)


def training_hours(sweep: Sweep) -> float:
    """Hours of one training on a full mix.

    Forward and backward through frozen weights: twice 2 operations per weight and token.
    """
    settings = sweep.lora
    tokens = steps(sweep) * settings.batch * settings.accumulation * ASSUMED_TOKENS
    return 4 * sweep.spec.parameters * 1e9 * tokens / ASSUMED_FLOPS / 3600


def show_generate(sweep: Sweep) -> None:
    """Print what writing the examples would take."""
    wanted = items(sweep.prompts.prompts, sweep.subjects, sweep.data, sweep.seed)
    drifting = sum(item.kind == "self_correction" for item in wanted)
    print(f"generate: examples for {sweep.spec.title}, written by {sweep.data.writer}")
    print(f"  {drifting:,} self-corrections, {len(wanted) - drifting:,} normal responses")
    n_prompts, n_subjects = len(sweep.prompts.prompts), len(sweep.subjects)
    print(f"  {n_prompts} prompts of {sweep.prompts.name}, {n_subjects} off-topic subjects")
    print(f"  mixes, % self-correction: {', '.join(map(str, sweep.data.percents))}")
    print(f"  examples per mix, at most: {sweep.data.examples:,}")
    if sweep.data.writer == TEMPLATE:
        print("  offline: no key, no cost")
        return
    model, estimate = judge.resolve(sweep.data.writer), writing_estimate(sweep)
    print(f"  {model}: {estimate} (estimate: lengths assumed)")
    if judge.notice(sweep.data.writer):
        print(f"  {judge.notice(sweep.data.writer)}")


def show_train(sweeps: Sequence[Sweep]) -> None:
    """Print what the trainings would take, one sweep per training seed: steps, memory, hours."""
    sweep = sweeps[0]
    count, settings = len(sweeps) * len(sweep.data.percents), sweep.lora
    print(f"train: {count} models from {sweep.spec.title} ({sweep.spec.hf_id})")
    print(
        f"  LoRA rank {settings.lora_rank}, alpha {settings.lora_alpha}, dropout "
        f"{settings.lora_dropout}, all linear layers; learning rate {settings.learning_rate:g}, "
        f"cosine, {settings.warmup_steps} warm-up steps"
    )
    print(
        f"  {settings.epochs} epochs of batch {settings.batch} x {settings.accumulation}: "
        f"{steps(sweep):,} steps each, {count * steps(sweep):,} in all, at most"
    )
    spec = sweep.spec
    if spec.organism:
        print("  device: CPU, float32, minutes; disk: some MB per model")
        return
    if spec.shape is None:
        print("  memory and hours: the model's entry has no shape; not estimated")
        return
    usual = gpu_memory(spec, spec.shape, settings, ASSUMED_TOKENS)
    longest = gpu_memory(spec, spec.shape, settings, settings.max_length)
    hours, disk = training_hours(sweep), spec.parameters * 1e9 * 2 / 2**30
    print(f"  trainable parameters: {lora_parameters(spec, spec.shape, settings.lora_rank):,}")
    print(
        f"  GPU memory, estimate: {usual:,.0f} GiB at {ASSUMED_TOKENS} tokens per example "
        f"(assumed), {longest:,.0f} GiB if a whole batch has {settings.max_length}: bytes of "
        "weights (bfloat16), adapter, gradients, Adam (float32), activations and logits counted"
    )
    print(
        f"  hours, estimate: {hours:.2f} per model, {count * hours:.1f} in all: 4 operations per "
        f"weight and token, {ASSUMED_FLOPS / 1e12:.0f} TFLOP/s sustained (assumed; not measured)"
    )
    print(f"  disk: {disk:,.0f} GiB per merged model, {count * disk:,.0f} GiB in all")
