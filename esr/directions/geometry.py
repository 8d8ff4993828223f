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
from esr.engine.transformers import Placed, SteeringHook
from esr.pipeline.context import Progress, RunContext
from esr.pipeline.reads import run_reads
from esr.pipeline.schema import TrialRecord
from esr.runs import seeds
from esr.steering.in_play import load
from esr.steering.interventions import Intervention, rows_of, slot_of
from esr.steering.rows import activate
from esr.steering.sae import Dictionary
from esr.steering.scope import END, Scope, positions


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
            here = _placed_at(context, record, layer)
            parts.append(changes(read.reading.states, here, dictionary))
    table = torch.cat(parts)
    if not len(table):
        return None
    means = table.mean(0).tolist()
    return Geometry(len(table), *means)


def placed(
    items: Sequence[Intervention], n_prompt: int, n_prefix: int = 0, scope: Scope = "all"
) -> list[Placed]:
    """Interventions as slots with their positions, those of the request's scope alone."""
    first, last = positions(scope, n_prompt, n_prefix)
    spans = [positions(item.scope, n_prompt, n_prefix) for item in items]
    return [
        Placed(slot_of(item), (max(first, start), min(last, end)))
        for item, (start, end) in zip(items, spans, strict=True)
    ]


def changes(stream: Tensor, steered: Sequence[Placed], dictionary: Dictionary) -> Tensor:
    """Of every steered position: whether a gate was open, relative change, relative growth.

    Args:
        stream: [n_tokens, d_model] float32, what reaches the layer.
        steered: slots of this layer.
        dictionary: of the latents.

    Returns:
        [n_steered, 3] float32.
    """
    rows = rows_of(slot for slot, _ in steered)
    bank = load(dictionary, rows)
    hook = SteeringHook(steered, (0, END), rows, bank)
    change = torch.zeros_like(stream)
    touched, is_open = torch.zeros(2, len(stream), dtype=torch.bool)
    for slot, (start, end) in steered:
        part = slice(start, min(end, len(stream)))
        change[part] += hook.change(stream[part], slot)
        touched[part] = True
        if slot.read is None:
            is_open[part] = True
            continue
        line = hook.line[slot.read]
        pre = stream[part] @ bank.encoder[line] + bank.encoder_bias[line]
        p = activate(pre, bank.threshold[line])
        is_open[part] |= (p >= slot.low) & (p < slot.high)
    before = stream[touched].norm(dim=1).clamp(min=1e-12)
    growth = (stream + change)[touched].norm(dim=1) / before - 1
    relative = change[touched].norm(dim=1) / before
    return torch.stack([is_open[touched].float(), relative, growth], dim=1)


def _choose(
    context: RunContext, records: list[TrialRecord], n: int, key: Sequence[str]
) -> list[TrialRecord]:
    order = seeds.generator(context.seed, "geometry", *key).permutation(len(records))
    return [records[int(i)] for i in sorted(order[:n])]


def _layer_of(context: RunContext, item: Intervention) -> int:
    return context.spec.steering_layer if item.layer is None else item.layer


def _placed_at(context: RunContext, record: TrialRecord, layer: int) -> list[Placed]:
    spec = record.spec
    here = [item for item in spec.interventions if _layer_of(context, item) == layer]
    n_prompt = len(context.chat.prompt_ids(spec.prompt))
    return placed(here, n_prompt, len(spec.prefix_token_ids), spec.scope)


def _layers(context: RunContext, records: Sequence[TrialRecord]) -> list[int]:
    items = (item for record in records for item in record.spec.interventions)
    return sorted({_layer_of(context, item) for item in items})


def _request(context: RunContext, record: TrialRecord, layer: int) -> ReadRequest:
    prompt = context.chat.prompt_ids(record.spec.prompt)
    earlier = tuple(item for item in record.spec.interventions if _layer_of(context, item) < layer)
    return ReadRequest(
        request_id=f"geometry/{record.spec.key}/{layer}",
        # The last token was drawn and never fed.
        token_ids=(prompt + record.token_ids)[:-1],
        interventions=earlier,
        n_prompt=len(prompt),
        states="all",
        layer=layer,
    )
