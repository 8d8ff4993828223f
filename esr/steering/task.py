"""What one request asks of a worker, and how it travels there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from esr.steering.effects import NONE, Effects

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
class Task:
    """What one request asks of the worker.

    Attributes:
        key: chosen by the client, unique for the life of the engine; names the reading.
        effects: of its interventions.
        read: what to read at the feature layer.
    """

    key: str
    effects: Effects = NONE
    read: ReadTask | None = None

    def to_wire(self) -> list[Any]:
        """As plain data, for the sampling parameters' ``extra_args``."""
        read = None if self.read is None else astuple(self.read)
        return [self.key, *self.effects.to_wire(), read]

    @classmethod
    def from_wire(cls, data: Sequence[Any]) -> Task:
        """Inverse of :meth:`to_wire`."""
        key, table, digests, read = data
        if read is not None:
            latents, *others = read
            read = ReadTask(None if latents is None else tuple(latents), *others)
        return cls(key, Effects.from_wire(table, digests), read)
