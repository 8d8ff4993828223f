"""What one request asks of a worker, and how it travels there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from esr.steering import interventions as iv
from esr.steering.interventions import Intervention, Row, Slot, slot_of
from esr.steering.scope import END, Scope, positions

CONFIG_KEY = "esr"
"""Where our settings lie in vLLM's ``additional_config`` and in a request's ``extra_args``."""


@dataclass(frozen=True)
class ReadTask:
    """Read ``latents`` (None: pool over all) at positions ``first`` to ``n_tokens`` - 1.

    ``states`` other than "" reads the stream itself: its "mean", its "last" row, or "all" rows.
    ``layer``: None is the feature layer.
    """

    latents: tuple[int, ...] | None
    first: int
    n_tokens: int
    states: str = ""
    layer: int | None = None


@dataclass(frozen=True)
class Effect:
    """A slot in one text.

    Attributes:
        slot: its layer is set; its scope means nothing any more.
        start: first position that it changes.
        end: one past the last.
    """

    slot: Slot
    start: int = 0
    end: int = END

    @property
    def layer(self) -> int:
        """Where it acts."""
        assert self.slot.layer is not None
        return self.slot.layer


def effects(
    interventions: Iterable[Intervention],
    layer: int,
    n_prompt: int,
    n_prefix: int = 0,
    scope: Scope = "all",
) -> tuple[Effect, ...]:
    """What interventions do in one text.

    Args:
        interventions: checked ones.
        layer: of those that name none.
        n_prompt: tokens of the prompt.
        n_prefix: tokens of the given prefix.
        scope: of the request: only positions in both its scope and an intervention's are changed.
    """
    first, last = positions(scope, n_prompt, n_prefix)
    placed = []
    for slot in map(slot_of, interventions):
        start, end = positions(slot.scope, n_prompt, n_prefix)
        start, end = max(start, first), min(end, last)
        if start < end:
            where = layer if slot.layer is None else slot.layer
            placed.append(Effect(replace(slot, layer=where, scope="all"), start, end))
    return tuple(placed)


def content(of: Iterable[Effect]) -> list[Any]:
    """All that can change a stream, as plain data: what requests must agree in to share cached
    tokens. Positions count where an effect begins or ends, digests where a direction is written."""
    return [[iv.to_json([item.slot])[0], item.start, item.end] for item in of]


@dataclass(frozen=True)
class Task:
    """What one request asks of the worker.

    Attributes:
        key: chosen by the client, unique for the life of the engine; names the reading.
        effects: of its interventions.
        read: what to read at the feature layer.
    """

    key: str
    effects: tuple[Effect, ...] = ()
    read: ReadTask | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows in play, ascending, each once."""
        return iv.rows_of(item.slot for item in self.effects)

    def to_wire(self) -> str:
        """As a string, for the sampling parameters' ``extra_args``."""
        slots = iv.to_json([item.slot for item in self.effects])
        spans = [(item.start, item.end) for item in self.effects]
        read = None if self.read is None else asdict(self.read)
        return json.dumps({"key": self.key, "slots": slots, "spans": spans, "read": read})

    @classmethod
    def from_wire(cls, text: str) -> Task:
        """Inverse of :meth:`to_wire`."""
        data = json.loads(text)
        read = data["read"]
        if read is not None:
            latents = None if read["latents"] is None else tuple(read["latents"])
            read = ReadTask(**{**read, "latents": latents})
        slots = iv.from_json(data["slots"])
        placed = tuple(
            Effect(slot_of(slot), *span) for slot, span in zip(slots, data["spans"], strict=True)
        )
        return cls(data["key"], placed, read)
