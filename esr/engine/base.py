"""The engine contract: generation with per-request interventions, and activation reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from esr.steering.interventions import Intervention

if TYPE_CHECKING:
    from torch import Tensor

    from esr.steering.pooling import PooledReading

Scope = Literal["all", "generated"]
Pairing = Literal["request-id", "scheduler-order"]


CLOSED = "the engine was closed"
"""What the EngineError of a request says that a closed engine gets, or that was in flight."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn (paper section 2.1: temperature 0.6, top-p 1, 512 new tokens).

    ``temperature`` 0 is greedy. The seed belongs to the request and to nothing else.
    """

    temperature: float = 0.6
    top_p: float = 1.0
    max_tokens: int = 512
    repetition_penalty: float = 1.1
    seed: int = 0


@dataclass(frozen=True)
class GenerationRequest:
    """One response to generate.

    Attributes:
        request_id: unique among the requests in flight.
        prompt_token_ids: the rendered prompt, chat template included.
        interventions: active at the steering layer for this request alone.
        scope: "all" steers prompt and response (the paper); "generated" the response alone.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    interventions: tuple[Intervention, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    scope: Scope = "all"


@dataclass(frozen=True)
class Generation:
    """One response. ``finish_reason`` is "stop" or "length"; ``text`` has no special tokens."""

    request_id: str
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str


@dataclass(frozen=True)
class ReadRequest:
    """Feed a text and read latents at the feature layer.

    The residual stream is read as the following layer receives it: after the interventions,
    where steering layer and feature layer coincide.

    Attributes:
        token_ids: the whole text, prompt and response.
        latents: which latents to return per token; None pools over the whole dictionary.
        interventions: active at the steering layer while the text is fed.
        first_token: positions before it are fed but left out of the reading.
    """

    request_id: str
    token_ids: tuple[int, ...]
    latents: tuple[int, ...] | None = None
    interventions: tuple[Intervention, ...] = ()
    first_token: int = 0


@dataclass(frozen=True)
class Reading:
    """Answer to a :class:`ReadRequest`: exactly one of the two is set.

    ``values``: [n_tokens - first_token, n_latents] float32, in the order of the request's latents.
    """

    request_id: str
    values: Tensor | None = None
    pooled: PooledReading | None = None


class Engine(Protocol):
    """What experiments need from a model. Every request gets its own interventions only."""

    async def generate(self, request: GenerationRequest) -> Generation:
        """Generate one response; raises UserError for a request that can never run."""
        ...

    async def read(self, request: ReadRequest) -> Reading:
        """Read latents over a given text."""
        ...

    def describe(self) -> dict[str, object]:
        """Facts for ``run.json``: engine, version, dtype, device, pairing."""
        ...

    async def close(self) -> None:
        """Free the model. Requests in flight, and all later ones, get an EngineError; closing
        again does nothing."""
        ...
