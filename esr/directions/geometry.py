"""What interventions did to the stream over responses that are there: gates and changes.

A slot reads the stream that reaches its layer. That stream is read with the interventions of
earlier layers on and those of this layer off, so that gates and changes are those of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esr.engine.base import ReadRequest
from esr.pipeline.context import Progress, RunContext
from esr.pipeline.reads import run_reads
from esr.pipeline.schema import TrialRecord
from esr.runs import seeds
from esr.steering.interventions import Intervention, rows_of, slot_of
from esr.steering.row_cache import load
from esr.steering.rows import activate, steer
from esr.steering.sae import Dictionary
from esr.steering.task import Effect, effects


@dataclass(frozen=True)
class Geometry:
    """Means over all steered tokens of some responses, all layers of the interventions together.

    Attributes:
        tokens: steered ones, counted once per layer.
        open_share: of them, those that any slot changed: its gate was open.
        change: length of the change over the length of the row before it.
        growth: change of the row's length over its length before.
    """

    tokens: int
    open_share: float
    change: float
    growth: float


async def geometry(
    context: RunContext,
    records: Sequence[TrialRecord],
    n: int,
    *key: str,
    layers: Sequence[int] = (),
) -> Geometry | None:
    """Over ``n`` of the records, chosen by the run seed and ``key``; None where there are none.

    ``layers``: only what is done there; every layer that is steered where left out. The engine
    needs hooks at them. Reads are in the run folder.
    """
    from esr.steering import sae

    chosen = _choose(context, [r for r in records if r.token_ids], n, key)
    if not chosen:
        return None
    dictionary = sae.load(context.spec.sae)
    parts: list[Tensor] = []
    for layer in layers or _layers(context, chosen):
        requests = [_request(context, record, layer) for record in chosen]
        done = await run_reads(requests, context, progress=Progress(None, context))
        for record, read in zip(chosen, done, strict=True):
            if read.reading is None or read.reading.states is None:
                raise RuntimeError(f"no states were read ({read.error})")
            here = [item for item in _effects(context, record) if item.layer == layer]
            parts.append(changes(read.reading.states, here, dictionary))
    table = torch.cat(parts)
    if not len(table):
        return None
    means = table.mean(0).tolist()
    return Geometry(len(table), *means)


def changes(stream: Tensor, steered: Sequence[Effect], dictionary: Dictionary) -> Tensor:
    """Of every steered position: whether a gate was open, relative change, relative growth.

    Args:
        stream: [n_tokens, d_model] float32, what reaches the layer.
        steered: effects at this layer.
        dictionary: of the latents.

    Returns:
        [n_steered, 3] float32.
    """
    rows = rows_of(item.slot for item in steered)
    bank = load(dictionary, rows)
    place = {row: i for i, row in enumerate(rows)}
    after, touched = stream.clone(), torch.zeros(len(stream), dtype=torch.bool)
    is_open = torch.zeros(len(stream), dtype=torch.bool)
    for start, end in sorted({(item.start, item.end) for item in steered}):
        slots = [item.slot for item in steered if (item.start, item.end) == (start, end)]
        part = slice(start, end)
        placed = [(s, place[s.write], place[s.read or s.write]) for s in slots]
        after[part] += steer(stream[part], placed, bank) - stream[part]
        touched[part] = True
        for slot in slots:
            read = place[slot.read or slot.write]
            p = activate(
                stream[part] @ bank.encoder[read] + bank.encoder_bias[read], bank.threshold[read]
            )
            is_open[part] |= (p >= slot.low) & (p < slot.high)
    before = stream[touched].norm(dim=1).clamp(min=1e-12)
    change = (after - stream)[touched].norm(dim=1) / before
    growth = after[touched].norm(dim=1) / before - 1
    return torch.stack([is_open[touched].float(), change, growth], dim=1)


def _choose(
    context: RunContext, records: list[TrialRecord], n: int, key: Sequence[str]
) -> list[TrialRecord]:
    order = seeds.generator(context.seed, "geometry", *key).permutation(len(records))
    return [records[int(i)] for i in sorted(order[:n])]


def _effects(context: RunContext, record: TrialRecord) -> tuple[Effect, ...]:
    spec = record.spec
    n_prompt = len(context.chat.prompt_ids(spec.prompt))
    return effects(
        spec.interventions,
        context.spec.steering_layer,
        n_prompt,
        len(spec.prefix_token_ids),
        spec.scope,
    )


def _layers(context: RunContext, records: Sequence[TrialRecord]) -> list[int]:
    return sorted({item.layer for record in records for item in _effects(context, record)})


def _request(context: RunContext, record: TrialRecord, layer: int) -> ReadRequest:
    prompt = context.chat.prompt_ids(record.spec.prompt)
    default = context.spec.steering_layer
    earlier: tuple[Intervention, ...] = tuple(
        item
        for item in record.spec.interventions
        if (default if (own := slot_of(item).layer) is None else own) < layer
    )
    return ReadRequest(
        request_id=f"geometry/{record.spec.key}/{layer}",
        # The last token was drawn and never fed.
        token_ids=(prompt + record.token_ids)[:-1],
        interventions=earlier,
        n_prompt=len(prompt),
        states="all",
        layer=layer,
    )
