"""The engine contract: generation with per-request interventions, and activation reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from esr.steering.interventions import Intervention, expanded
from esr.steering.scope import Scope

if TYPE_CHECKING:
    from torch import Tensor

    from esr.steering.pooling import PooledReading

Pairing = Literal["request-id", "scheduler-order"]
States = Literal["", "mean", "last", "all"]


CLOSED = "the engine was closed"
"""What the EngineError of a request says that a closed engine gets, or that was in flight."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn (paper section 2.1: temperature 0.6, top-p 1, 512 new tokens).

    ``temperature`` 0 is greedy. The seed belongs to the request and to nothing else: the first
    generated token takes its first draw, however long a prefix is given. ``max_tokens`` counts
    generated tokens; the repetition penalty counts prompt, given prefix and generated tokens
    alike, so a given token is penalised as if it had been generated.
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
        interventions: active for this request alone; an operator
            (:class:`esr.steering.operators.Steer`) stands for its slots.
        scope: positions that may be steered, see :mod:`esr.steering.scope`; "all" in the paper.
            An intervention acts where its own scope and this one agree.
        prefix_token_ids: tokens of the response that are given, not generated.
    """

    request_id: str
    prompt_token_ids: tuple[int, ...]
    interventions: tuple[Intervention, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    scope: Scope = "all"
    prefix_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "interventions", expanded(self.interventions))


@dataclass(frozen=True)
class Generation:
    """One response.

    Attributes:
        request_id: of the request.
        token_ids: of the response: given prefix and generated tokens.
        text: the same as text, without special tokens.
        finish_reason: "stop" or "length".
        n_prefix: how many of the tokens were given; generation begins behind them.
        generated_from: first character of the text that was generated; 0 without a prefix.
        pairing: under the pairing "scheduler-order", how many tokens, prompt included, were steered
            by the request's "own" intervention, by an "other" one and by "none"; one that is the
            same as its own counts as its own. None under the correct pairing, and for a request
            that asks for nothing.
    """

    request_id: str
    token_ids: tuple[int, ...]
    text: str
    finish_reason: str
    n_prefix: int = 0
    generated_from: int = 0
    pairing: Mapping[str, int] | None = None


@dataclass(frozen=True)
class ReadRequest:
    """Feed a text and read latents at the feature layer, or states, or probabilities.

    The residual stream is read as the following layer receives it: after the interventions,
    where they act at the layer that is read.

    Attributes:
        token_ids: the whole text, prompt and response.
        latents: which latents to return per token; None pools over the whole dictionary.
        interventions: active while the text is fed.
        first_token: positions before it are fed but left out of the reading.
        n_prompt: tokens of the prompt, for scopes; the rest is the response. Needed where an
            intervention has another scope than "all".
        n_prefix: tokens of the response's given prefix, for scopes.
        states: in place of latents the residual stream itself, over the positions read: its
            "mean", its "last" row or "all" rows.
        layer: where states are read; None is the feature layer.
        logprobs: in place of latents the log-probability of each token, given those before it.
    """

    request_id: str
    token_ids: tuple[int, ...]
    latents: tuple[int, ...] | None = None
    interventions: tuple[Intervention, ...] = ()
    first_token: int = 0
    n_prompt: int | None = None
    n_prefix: int = 0
    states: States = ""
    layer: int | None = None
    logprobs: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "interventions", expanded(self.interventions))


@dataclass(frozen=True)
class Reading:
    """Answer to a :class:`ReadRequest`: exactly one is set.

    ``values``: [n_tokens - first_token, n_latents] float32, in the order of the request's latents;
    ``states``: [n_tokens - first_token, d_model] float32, or one row for "mean" and "last";
    ``logprobs``: [n_tokens - first_token] float32, natural logarithm, before penalty and
    temperature.
    """

    request_id: str
    values: Tensor | None = None
    pooled: PooledReading | None = None
    states: Tensor | None = None
    logprobs: Tensor | None = None


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
