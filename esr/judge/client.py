"""The layer every language-model call goes through: a request, a completion, one SDK behind it.

Grading, concreteness ratings, boundary annotation and the training texts of experiment 4 differ
in what they ask, not in how they ask. Retries and connections are the SDK's business; what an
SDK raises for the provider's fault comes back as a completion that failed, never as an exception.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from esr.judge import prices
from esr.judge.prices import Usage

MAX_TOKENS = 4096
"""Cap of an answer (the authors' judge; PAPER section 6)."""

TIMEOUT = 120.0
"""Seconds without a sign of life after which a call is given up and tried again."""

RETRIES = 5
"""Further tries of the SDK after the first."""

_KEYS = re.compile(r"\b(?:sk-[\w-]{8,}|AIza[\w-]{20,})|(?<=Bearer )\S+")
_ERROR_LENGTH = 2000


class Stop(StrEnum):
    """Why an answer ended."""

    END = "end"
    LENGTH = "length"
    REFUSED = "refused"
    FILTERED = "content_filter"
    FAILED = "failed"


class Fault(StrEnum):
    """What went wrong on the provider's side."""

    AUTH = "auth"
    NOT_FOUND = "not_found"
    RATE_LIMIT = "rate_limit"
    BAD_REQUEST = "bad_request"
    SERVER = "server"
    TIMEOUT = "timeout"
    CONNECTION = "connection"
    MALFORMED = "malformed_response"
    WRONG_MODEL = "wrong_model"


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
    """

    system: str
    user: str
    fixed: str = ""
    max_tokens: int = MAX_TOKENS
    temperature: float | None = None
    schema: dict[str, Any] | None = None


@dataclass(frozen=True)
class Completion:
    """What came back.

    Attributes:
        text: the answer; the explanation where the provider refused or failed.
        stop: why it ended.
        usage: tokens, also of answers that turn out to be useless.
        cost: US dollars.
        model: who answered, as the provider says; empty where it does not say.
        fault: what failed, where ``stop`` is FAILED.
    """

    text: str
    stop: Stop
    usage: Usage = field(default_factory=Usage)
    cost: float = 0.0
    model: str = ""
    fault: Fault | None = None


def failed(fault: Fault, text: str) -> Completion:
    """A completion that never came."""
    return Completion(text[:_ERROR_LENGTH], Stop.FAILED, fault=fault)


def fault_of(error: Exception) -> Fault:
    """Sort an SDK's exception by its HTTP status, else by its kind."""
    status = getattr(error, "status_code", None) or getattr(error, "code", None)
    if isinstance(status, int):
        named = {401: Fault.AUTH, 403: Fault.AUTH, 404: Fault.NOT_FOUND, 408: Fault.TIMEOUT}
        if status in named:
            return named[status]
        if status == 429:
            return Fault.RATE_LIMIT
        return Fault.SERVER if status >= 500 else Fault.BAD_REQUEST
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return Fault.TIMEOUT
    return Fault.MALFORMED if isinstance(error, ValueError) else Fault.CONNECTION


class Client(ABC):
    """One model at one provider, through the provider's own SDK.

    Attributes:
        provider: name of the provider in records.
        model: dated id that is asked for.
        base_url: where it is asked.
        faults: exceptions of the SDK that are the provider's fault.
    """

    provider = ""

    def __init__(
        self,
        model: str,
        *,
        key: str,
        base_url: str,
        concurrency: int = 16,
        verify_model: bool = True,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self._key = key
        self._verify_model = verify_model
        self._slots = asyncio.Semaphore(concurrency)
        self.faults: tuple[type[Exception], ...] = ()

    @abstractmethod
    async def _send(self, request: Request) -> Completion:
        """Ask once through the SDK, which retries by itself."""

    def parameters(self, request: Request) -> dict[str, Any]:
        """Body of a request, for batch endpoints; providers without one have none."""
        raise NotImplementedError(f"{self.provider} has no batch endpoint")

    @abstractmethod
    async def close(self) -> None:
        """Close connections."""

    async def complete(self, request: Request) -> Completion:
        """Ask. Waits for a free slot; never raises for the provider's fault."""
        async with self._slots:
            try:
                completion = await self._send(request)
            except self.faults as error:
                text = f"{type(error).__name__}: {error}"
                return failed(fault_of(error), self.scrub(text))
        return self.checked(completion)

    def checked(self, completion: Completion, *, batch: bool = False) -> Completion:
        """Price a completion; refuse the answer of another model than the one asked.

        Providers reroute retired ids to their successors, which would put one judge's verdicts
        under another's name.
        """
        cost = prices.dollars(self.model, completion.usage, batch=batch)
        completion = replace(completion, cost=cost, text=self.scrub(completion.text))
        if self._verify_model and completion.model and not _same(completion.model, self.model):
            text = f"asked {self.model}, answered by {completion.model}: {completion.text}"
            return replace(completion, stop=Stop.FAILED, fault=Fault.WRONG_MODEL, text=text)
        return completion

    def scrub(self, text: str) -> str:
        """Text without anything that looks like a key."""
        if self._key:
            text = text.replace(self._key, "***")
        return _KEYS.sub("***", text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"


def _same(answered: str, asked: str) -> bool:
    """Whether two ids name one model: equal, or the asked one followed by a date."""
    rest = answered.removeprefix("models/").removeprefix(asked)
    return rest != answered and re.fullmatch(r"(-\d[\d-]*)?", rest) is not None
