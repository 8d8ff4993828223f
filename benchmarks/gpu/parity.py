"""Are the tokens right: against a plain hook, steered beside unsteered, on one rank and on two."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.plain import Plain
from benchmarks.gpu.setting import Setting, random_model, start, used
from benchmarks.random_models import PARITY
from esr.engine.base import GenerationRequest, ReadRequest, Sampling
from esr.steering.interventions import Boost, Clamp, Intervention

if TYPE_CHECKING:
    from esr.engine.vllm import VllmEngine

NEAR_TIE = 0.25
"""Logits by which a token may lie below the best one where the dtype rounds."""

KINDS = ("none", "boost", "clamps", "boost and clamps", "27 latents")


def requests(setting: Setting, vocabulary: int, d_sae: int) -> list[GenerationRequest]:
    """Greedy requests of all kinds and lengths, to be in flight together."""
    rng = random.Random(5)
    batch = []
    for i in range(setting.requests):
        prompt = tuple(rng.randrange(4, vocabulary) for _ in range(rng.randint(3, 90)))
        steered = interventions(KINDS[i % len(KINDS)], rng.sample(range(d_sae), 27))
        sampling = Sampling(0.0, 1.0, setting.tokens, 1.0)
        batch.append(GenerationRequest(f"r{i}", prompt, steered, sampling))
    return batch


def interventions(kind: str, latents: Sequence[int]) -> tuple[Intervention, ...]:
    """Of one kind, on given latents."""
    of_kind: dict[str, tuple[Intervention, ...]] = {
        "none": (),
        "boost": (Boost(latents[0], 12.0),),
        "clamps": (Clamp(latents[0]), Clamp(latents[1], 8.0)),
        "boost and clamps": (Boost(latents[0], 8.0), Clamp(latents[0], 2.0), Clamp(latents[1])),
        "27 latents": (Boost(latents[0], 8.0), *(Clamp(k) for k in latents[1:])),
    }
    return of_kind[kind]


def against_plain(
    setting: Setting, graphs: str, dtype: str, quantization: str = ""
) -> dict[str, Any]:
    """Every request of a mixed batch against one Hugging Face hook.

    In float32 every token must be equal; in bfloat16 a token may be a near-tie. Under fp8 the
    reference has the unquantised weights: steered requests may lie no further from it than
    unsteered ones do, twice that and a near-tie granted.
    """
    dtype = setting.dtype(dtype)
    with random_model(PARITY, dtype=dtype) as (spec, dictionary):
        plain = Plain(spec, dictionary)
        quantised = "" if setting.miniature else quantization
        asked = dataclasses.replace(spec, quantization=quantised)
        engine = start(asked, dictionary, setting, graphs, max_in_flight=32)
        batch = requests(setting, engine.info.vocabulary, spec.d_sae)
        description = engine.describe()
        answers = used(engine, lambda engine: _all(engine, batch))
        rows = [
            _row(plain, request, answer) for request, answer in zip(batch, answers, strict=True)
        ]
    return verdict(rows, exact=dtype == "float32" and not quantised, quantised=bool(quantised)) | {
        "runner": description["runner"],
        "dtype": dtype,
        "quantization": quantised,
    }


def _row(plain: Plain, request: GenerationRequest, answer: list[int]) -> dict[str, Any]:
    prompt, steered, n = request.prompt_token_ids, request.interventions, len(answer)
    reference = plain.tokens(prompt, steered, n)
    return {
        "steered": bool(steered),
        "equal": answer == reference,
        "regret": plain.regret(prompt, steered, answer),
        "changed": bool(steered) and plain.tokens(prompt, (), n) != reference,
    }


def verdict(rows: Sequence[dict[str, Any]], *, exact: bool, quantised: bool) -> dict[str, Any]:
    """What the rows of a parity step come to."""
    steered = [row for row in rows if row["steered"]]
    worst = {
        name: max((r["regret"] for r in group), default=0.0)
        for name, group in (
            ("steered", steered),
            ("unsteered", [row for row in rows if not row["steered"]]),
        )
    }
    equal = sum(row["equal"] for row in rows)
    changed = sum(row["changed"] for row in steered)
    if quantised:
        right = worst["steered"] <= 2 * worst["unsteered"] + NEAR_TIE
    elif exact:
        right = equal == len(rows)
    else:
        right = max(worst.values()) <= NEAR_TIE
    return {
        # Steering that changes no token could not be missed.
        "passed": right and changed > len(steered) // 2,
        "requests": len(rows),
        "equal": equal,
        "changed_by_steering": f"{changed} of {len(steered)}",
        "worst_regret_steered": round(worst["steered"], 4),
        "worst_regret_unsteered": round(worst["unsteered"], 4),
    }


async def _all(engine: VllmEngine, batch: Sequence[GenerationRequest]) -> list[list[int]]:
    answers = await asyncio.gather(*map(engine.generate, batch))
    return [list(answer.token_ids) for answer in answers]


def null(setting: Setting, graphs: str = "full") -> dict[str, Any]:
    """Prompts unsteered and alone, unsteered beside steered ones, and under a boost of 0.

    In bfloat16 a row may round otherwise in another batch: a third may change.
    """
    with random_model(PARITY, dtype=setting.dtype("bfloat16")) as (spec, dictionary):
        engine = start(spec, dictionary, setting, graphs, max_in_flight=96)
        batch = [
            dataclasses.replace(request, interventions=())
            for request in requests(setting, engine.info.vocabulary, spec.d_sae)
        ]
        changed = used(engine, lambda engine: _null(engine, batch))
    allowed = 0 if setting.miniature else len(batch) // 3
    return {"passed": max(changed.values()) <= allowed, "requests": len(batch), **changed}


async def _null(engine: VllmEngine, batch: Sequence[GenerationRequest]) -> dict[str, int]:
    def under(name: str, *steered: Intervention) -> list[GenerationRequest]:
        return [
            dataclasses.replace(r, request_id=f"{name}{r.request_id}", interventions=steered)
            for r in batch
        ]

    alone = await _all(engine, batch)
    together = await _all(
        engine, [*under("plain"), *under("null", Boost(3, 0.0)), *under("far", Boost(3, 12.0))]
    )
    n = len(batch)
    parts = {
        "changed_beside_steered": together[:n],
        "changed_by_a_boost_of_0": together[n : 2 * n],
    }
    return {
        name: sum(a != b for a, b in zip(alone, part, strict=True)) for name, part in parts.items()
    }


def ranks(setting: Setting, graphs: str = "full", repeats: int = 20) -> dict[str, Any]:
    """Two ranks against one: tokens, and the same read many times over (nnsight issue 631).

    A hook that reads a buffer of the all-reduce too early gets stale values now and then.
    """
    two = 1 if setting.miniature else 2
    with random_model(PARITY, dtype=setting.dtype("bfloat16")) as (spec, dictionary):
        answers, reads = {}, {}
        for n in sorted({1, two}):
            engine = start(spec, dictionary, setting, graphs, max_in_flight=32, tensor_parallel=n)
            batch = requests(setting, engine.info.vocabulary, spec.d_sae)
            answers[n], reads[n] = used(engine, partial(_ranks, batch=batch, repeats=repeats))
        plain = Plain(spec, dictionary)
        rows = [_row(plain, r, answer) for r, answer in zip(batch, answers[two], strict=True)]
    first, scale = reads[1][0], float(reads[1][0].abs().max())
    off = [float((read - first).abs().max()) / scale for read in reads[two]]
    result = verdict(rows, exact=setting.miniature, quantised=False)
    return {
        **result,
        "ranks": two,
        "reads": len(off),
        "worst_read_relative": max(off),
        "passed": result["passed"] and max(off) <= (1e-5 if setting.miniature else 0.05),
    }


async def _ranks(
    engine: VllmEngine, batch: Sequence[GenerationRequest], repeats: int
) -> tuple[list[list[int]], list[Any]]:
    text = tuple(range(4, 100))
    answers = asyncio.ensure_future(_all(engine, batch))
    reads = [
        (await engine.read(ReadRequest(f"read{i}", text, tuple(range(40))))).values
        for i in range(repeats)
    ]
    return await answers, reads
