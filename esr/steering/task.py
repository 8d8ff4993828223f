"""What one request asks of a worker, and how it travels there."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from esr.steering import interventions
from esr.steering.interventions import Intervention

CONFIG_KEY = "esr"
"""Where our settings lie in vLLM's ``additional_config`` and in a request's ``extra_args``."""


@dataclass(frozen=True)
class ReadTask:
    """Read ``latents`` (None: pool over all) at positions ``first`` to ``n_tokens`` - 1."""

    latents: tuple[int, ...] | None
    first: int
    n_tokens: int


@dataclass(frozen=True)
class Task:
    """What one request asks of the worker.

    Attributes:
        key: chosen by the client, unique for the life of the engine; names the reading.
        interventions: at the steering layer.
        first: first position that is steered; 0, or the length of the prompt.
        read: what to read at the feature layer.
    """

    key: str
    interventions: tuple[Intervention, ...] = ()
    first: int = 0
    read: ReadTask | None = None

    def to_wire(self) -> str:
        """As a string, for the sampling parameters' ``extra_args``."""
        steered = interventions.to_json(self.interventions)
        return json.dumps(asdict(self) | {"interventions": steered})

    @classmethod
    def from_wire(cls, text: str) -> Task:
        """Inverse of :meth:`to_wire`."""
        data = json.loads(text)
        read = data["read"]
        if read is not None:
            latents = None if read["latents"] is None else tuple(read["latents"])
            read = ReadTask(latents, read["first"], read["n_tokens"])
        return cls(data["key"], interventions.from_json(data["interventions"]), data["first"], read)
