"""Choosing latents to boost: concrete labels, unrelated to the prompts (paper A.1.2, release).

Two filters with names:

* ``release``: label rated at least 65 of 100 for concreteness, and activation exactly 0 on
  every prompt. It made the paper's tables and is the default.
* ``paper``: label not below the median concreteness; for each prompt, the 100 latents most
  active in unsteered responses are not used with that prompt.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from esr.engine.base import ReadRequest
from esr.errors import UserError
from esr.models.labels import load_labels
from esr.pipeline.constants import (
    MIN_CONCRETENESS,
    MOST_ACTIVE_PER_PROMPT,
    POOL_DOUBLINGS,
    POOL_FACTOR,
)
from esr.pipeline.context import RunContext
from esr.pipeline.schema import LatentFilter, Selection, TrialSpec
from esr.pipeline.trials import run_trials
from esr.runs import seeds
from esr.runs.plain import plain, restore

if TYPE_CHECKING:
    from torch import Tensor

    from esr.steering.pooling import PooledReading


async def select(context: RunContext, n: int, latent_filter: LatentFilter = "release") -> Selection:
    """Draw ``n`` latents that pass the filter; the choice is journaled.

    Raises:
        UserError: no latent passes.
        JudgeError: labels could not be rated.
    """
    named = load_labels(context.spec)

    async def compute() -> dict[str, Any]:
        chosen = await (_release if latent_filter == "release" else _paper)(context, n, named)
        return dict(plain(chosen))

    data = await context.run.journal.once("selection", f"{latent_filter}/{n}", compute)
    selection = restore(Selection, data)
    if not selection.labels:
        raise UserError(
            f"no latent of {context.spec.key} passes the {latent_filter} filter "
            f"({selection.drawn} drawn, {selection.concrete} with a concrete label)",
            "at least one",
            f"--latent-filter {'paper' if latent_filter == 'release' else 'release'}",
        )
    return selection


async def _rate(context: RunContext, labels: Mapping[int, str]) -> dict[int, float]:
    """Concreteness of each label, 0 to 100."""
    ratings = await context.rate_labels(list(labels.values()))
    return dict(zip(labels, ratings, strict=True))


async def _release(context: RunContext, n: int, labels: Mapping[int, str]) -> Selection:
    order = [
        int(k) for k in seeds.generator(context.seed, "candidates").permutation(sorted(labels))
    ]
    silent = await _silent_on_prompts(context)
    pool = min(POOL_FACTOR * n, len(order))
    ratings: dict[int, float] = {}
    for _ in range(POOL_DOUBLINGS + 1):
        ratings |= await _rate(context, {k: labels[k] for k in order[len(ratings) : pool]})
        concrete = [k for k in order[:pool] if ratings[k] >= MIN_CONCRETENESS]
        passing = [k for k in concrete if silent[k]]
        if len(passing) >= n or pool == len(order):
            break
        pool = min(2 * pool, len(order))
    note = "" if len(passing) >= n else f"only {len(passing)} of {n} latents pass the filter"
    return Selection(
        {k: labels[k] for k in passing[:n]},
        wanted=n,
        drawn=len(ratings),
        concrete=len(concrete),
        note=note,
    )


async def _silent_on_prompts(context: RunContext) -> Tensor:
    """[d_sae] bool: activation exactly 0 at every token of every prompt, at the feature layer."""
    import torch

    with context.progress(len(context.prompts.prompts), "reading prompts") as progress:
        silent = torch.ones(context.spec.d_sae, dtype=torch.bool)
        for prompt in context.prompts.prompts:
            reading = await context.read(
                ReadRequest(f"prompt/{prompt.id}", context.chat.user_turn_ids(prompt.text))
            )
            silent &= pooled(reading.pooled).maximum == 0
            progress.step()
    return silent


def pooled(reading: PooledReading | None) -> PooledReading:
    """The pooled half of a reading that was asked to pool."""
    if reading is None:
        raise RuntimeError("the engine returned no pooled reading")
    return reading


async def _paper(context: RunContext, n: int, labels: Mapping[int, str]) -> Selection:
    order = [
        int(k) for k in seeds.generator(context.seed, "candidates").permutation(sorted(labels))
    ]
    drawn = order[: POOL_FACTOR * n]
    ratings = await _rate(context, {k: labels[k] for k in drawn})
    median = statistics.median(ratings.values())
    concrete = [k for k in drawn if ratings[k] >= median]
    barred: dict[int, list[str]] = {}
    for prompt_id, active in (await _most_active(context)).items():
        for latent in active:
            barred.setdefault(latent, []).append(prompt_id)
    usable = [k for k in concrete if len(barred.get(k, ())) < len(context.prompts.prompts)][:n]
    return Selection(
        {k: labels[k] for k in usable},
        {k: barred[k] for k in usable if k in barred},
        wanted=n,
        drawn=len(drawn),
        concrete=len(concrete),
        note="" if len(usable) == n else f"only {len(usable)} of {n} latents pass the filter",
    )


async def _most_active(context: RunContext) -> dict[str, list[int]]:
    """Per prompt id, the latents with the largest mean activation over an unsteered response."""
    records = await run_trials(
        unsteered(context, "relevance"), context, description="unsteered responses"
    )
    most: dict[str, list[int]] = {}
    for record in records:
        spec = record.spec
        prompt_ids = context.chat.prompt_ids(spec.prompt)
        reading = await context.read(
            ReadRequest(
                f"relevance/{spec.prompt_id}",
                prompt_ids + record.token_ids,
                first_token=len(prompt_ids),
            )
        )
        order = pooled(reading.pooled).mean.argsort(descending=True)
        most[spec.prompt_id] = order[:MOST_ACTIVE_PER_PROMPT].tolist()
    return most


def unsteered(context: RunContext, arm: str, per_prompt: int = 1) -> list[TrialSpec]:
    """Responses without intervention, to be read and not judged: ``per_prompt`` per prompt."""
    return [
        TrialSpec(
            arm=arm,
            trial_id=f"{arm}/{prompt.id}/{number}",
            latent=-1,
            latent_label="",
            threshold=0.0,
            prompt_id=prompt.id,
            prompt=prompt.text,
            interventions=(),
            sampling=context.sampling(seeds.derive(context.seed, arm, prompt.id, number)),
            judged=False,
        )
        for prompt in context.prompts.prompts
        for number in range(per_prompt)
    ]
