"""A question to a language model, and what came back: plain data, whoever was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from esr.judge import prices
from esr.judge.faults import Fault
from esr.judge.prices import Usage

MAX_TOKENS = 4096
"""Cap of an answer (the authors' judge; PAPER section 6)."""

_ERROR_LENGTH = 2000


class Stop(StrEnum):
    """Why an answer ended."""

    END = "end"
    LENGTH = "length"
    REFUSED = "refused"
    FILTERED = "content_filter"
    FAILED = "failed"


@dataclass(frozen=True)
class Request:
    """One question to a language model.

    Attributes:
        system: instructions.
        user: what changes from question to question.
        fixed: unchanging start of the user message; sent so that providers can cache it.
        max_tokens: cap of the answer, hidden reasoning included where a provider counts it.
        temperature: None leaves the provider's default.
        schema: JSON schema the answer must follow; None for free text.
        sample: tells apart several answers wanted to the same question; not sent.
        purpose: what the money is spent on; not sent.
    """

    system: str
    user: str
    fixed: str = ""
    max_tokens: int = MAX_TOKENS
    temperature: float | None = None
    schema: dict[str, Any] | None = None
    sample: str = ""
    purpose: str = "verdict"


@dataclass(frozen=True)
class Completion:
    """What came back.

    Attributes:
        text: the answer; the explanation where the provider refused or failed.
        stop: why it ended.
        usage: tokens, also of answers that turn out to be useless.
        cost: US dollars; 0 from the cache.
        model: who answered, as the provider says; empty where it does not say.
        fault: what failed, where ``stop`` is FAILED.
    """

    text: str
    stop: Stop
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    model: str = ""
    fault: Fault | None = None

    @property
    def complete(self) -> bool:
        """Whether the model said what it had to say, cut off or not."""
        return self.stop in (Stop.END, Stop.LENGTH)


def failed(fault: Fault, text: str) -> Completion:
    """A completion that never came."""
    return Completion(text[:_ERROR_LENGTH], Stop.FAILED, fault=fault)


def estimated_usage(request: Request, answer: str) -> Usage:
    """Tokens of a question and its answer, by rule of thumb."""
    asked = len(request.system) + len(request.fixed) + len(request.user)
    return Usage(prices.estimate_tokens(asked), prices.estimate_tokens(len(answer)))
