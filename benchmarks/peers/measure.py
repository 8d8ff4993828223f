"""Rounds of alternating arms on one model, and what comes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.peers import arms as peers
from benchmarks.peers.arms import Arm, Ours, Tokens
from benchmarks.peers.plan import STEERED, UNSTEERED, Sizes
from benchmarks.peers.workload import Workload, same_tokens, strength, workload
from esr.models import ModelSpec
from esr.steering.sae import Dictionary

WORKLOADS = ("equal", "mixed")


@dataclass(frozen=True)
class Model:
    """A model with what the arms need of it."""

    spec: ModelSpec
    dictionary: Dictionary
    huggingface: Any
    value: float
    vocabulary: int

    def work(self, name: str, sizes: Sizes, seed: int, distinct: int | None = None) -> Workload:
        """The workload of a round."""
        return workload(
            name,
            self.spec,
            self.value,
            self.vocabulary,
            requests=sizes.requests,
            prompt=sizes.prompt,
            tokens=sizes.tokens,
            seed=seed,
            distinct=distinct,
        )


def load(key: str, folder: Path) -> Model:
    """A registered model, or a random one of a shape of :mod:`benchmarks.random_models`."""
    import torch
    from transformers import AutoModelForCausalLM

    from benchmarks import random_models

    spec, dictionary = random_models.registered_or_random(key, folder)
    # Default attention, not the exact one of our reference engine: a peer at its fastest.
    model = AutoModelForCausalLM.from_pretrained(spec.hf_id, dtype=getattr(torch, spec.dtype))
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
    # Sampling defaults of the model's own would only make Hugging Face warn.
    model.generation_config = type(model.generation_config)()
    vocabulary = int(model.config.vocab_size)
    value = strength(model, spec.steering_layer, dictionary, vocabulary)
    return Model(spec, dictionary, model, value, vocabulary)


def compare(model: Model, names: Sequence[str], sizes: Sizes) -> dict[str, Any]:
    """Ours and the named peers, on both workloads."""
    engine = peers.start_ours(model.spec, model.dictionary, sizes.in_flight)
    loop = asyncio.new_event_loop()
    try:
        arms: dict[str, Arm] = {
            UNSTEERED: Ours(engine, loop, steered=False),
            STEERED: Ours(engine, loop, steered=True),
        }
        for name in names:
            layer = model.spec.steering_layer
            arms[name] = peers.PEERS[name](
                model.huggingface, model.dictionary, layer, sizes.in_flight
            )
        agreement = agree(arms, model, replace(sizes, requests=8, tokens=16))
        result: dict[str, Any] = {
            "title": model.spec.title,
            "boost": round(model.value, 2),
            "sizes": asdict(sizes),
            "engine": engine.describe(),
            "versions": {name: arm.version for name, arm in arms.items()},
            "agreement": agreement,
            "runs": {},
        }
        for kind in WORKLOADS:
            result["runs"][kind] = rounds(
                {name: arm.generate for name, arm in arms.items()},
                partial(model.work, kind, sizes),
                sizes.rounds,
                kind,
            )
        return result
    finally:
        loop.run_until_complete(engine.close())
        loop.close()


def agree(arms: Mapping[str, Arm], model: Model, sizes: Sizes) -> dict[str, Any]:
    """Greedy tokens of a few steered requests: every arm against ours.

    Also how many of them steering changes, without which agreement would say nothing.
    """
    work = model.work("mixed", sizes, seed=10**6)
    answers = {name: arm.generate(work) for name, arm in arms.items()}
    ours = answers[STEERED]
    return {
        "requests": len(ours),
        "changed_by_steering": len(ours) - same_tokens(ours, answers[UNSTEERED]),
        "equal": {
            name: same_tokens(ours, tokens)
            for name, tokens in answers.items()
            if name not in (STEERED, UNSTEERED)
        },
    }


def rounds(
    arms: Mapping[str, Callable[[Workload], Tokens]],
    work_of: Callable[[int], Workload],
    n_rounds: int,
    title: str,
) -> dict[str, list[float]]:
    """Tokens per second of every arm in every round; the order turns from round to round."""
    names = list(arms)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:  # Warm up: nothing of it counts.
        arms[name](work_of(10**6).batches(8)[0])
    for round_ in range(n_rounds):
        work, turn = work_of(round_), round_ % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            arms[name](work)
            speeds[name].append(work.tokens / (time.perf_counter() - start))
            print(
                f"  {title}, round {round_ + 1}: {name:28} {speeds[name][-1]:8,.0f} tokens/s "
                f"(load {record.load()[0]})",
                flush=True,
            )
    return speeds


def distinct(
    model: Model, counts: Sequence[int], sizes: Sizes, progress: str = "distinct"
) -> dict[str, Any]:
    """K distinct boosts among the requests of one batch, all of them steered; K = 0: none is."""
    engine = peers.start_ours(model.spec, model.dictionary, sizes.in_flight)
    loop = asyncio.new_event_loop()
    try:
        steered, plain = Ours(engine, loop, steered=True), Ours(engine, loop, steered=False)

        def arm(count: int) -> Callable[[Workload], Tokens]:
            def generate(work: Workload) -> Tokens:
                if not count:
                    return plain.generate(work)
                taking_turns = tuple(i % count for i in range(len(work.prompts)))
                return steered.generate(replace(work, latents=taking_turns))

            return generate

        speeds = rounds(
            {str(count): arm(count) for count in counts},
            lambda round_: model.work("equal", sizes, round_),
            sizes.rounds,
            progress,
        )
        return {
            "title": model.spec.title,
            "sizes": asdict(sizes),
            "engine": engine.describe(),
            "runs": speeds,
        }
    finally:
        loop.run_until_complete(engine.close())
        loop.close()
