"""The layer every language-model call goes through: a request, a completion, one SDK behind it.

Grading, concreteness ratings, boundary annotation and the training texts of experiment 4 differ
in what they ask and how they read the answer, not in how they ask. A completion is looked up in
the cache, else waits for its turn, is checked against the spend limit, asked, paid and cached; it
is read by whoever asked. A provider's fault comes back as a completion that failed; only a judge
that rejects everything ends the run.
"""

from __future__ import annotations

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from typing import Any, ClassVar

import tenacity

from esr.errors import JudgeError, UserError
from esr.judge import prices
from esr.judge.base import CallSettings
from esr.judge.cache import Store
from esr.judge.completion import Completion, Request, Stop, estimated_usage, failed
from esr.judge.faults import LASTING, MEANING, PASSING, Fault, asked_delay, describe, fault_of
from esr.judge.ledger import Ledger
from esr.judge.prices import Usage
from esr.runs.plain import json_digest, plain, restore

GRACE = 30.0
"""Seconds that closing waits for answers on their way, which are paid for and worth keeping."""

_KEYS = re.compile(r"\b(?:sk-[\w-]{8,}|AIza[\w-]{20,})|(?<=Bearer )\S+")


def _free(completion: Completion) -> Completion:
    """A completion that somebody else has paid for."""
    return replace(completion, usage=Usage(), cost=0.0)


class Client(ABC):
    """One model at one provider, through the provider's own SDK.

    Args:
        model: dated id that is asked for.
        key: the provider's; empty for servers that need none.
        base_url: where it is asked.
        calls: how.
        verify_model: whether answers of another model are refused.
        store: where completions are kept; None keeps none.
        ledger: where they are paid; one without limit when left out.
        missing_key: raised before anything is sent, where a key is needed and there is none to use.
    """

    provider = ""
    transport: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    """What the SDK raises where no answer came."""

    def __init__(
        self,
        model: str,
        *,
        key: str,
        base_url: str,
        calls: CallSettings = CallSettings(),  # noqa: B008
        verify_model: bool = True,
        store: Store | None = None,
        ledger: Ledger | None = None,
        missing_key: UserError | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self.calls = calls
        self.store = store
        self.ledger = ledger or Ledger()
        self.missing_key = missing_key
        self._key = key
        self._verify_model = verify_model
        self._slots: AbstractAsyncContextManager[Any] = asyncio.Semaphore(calls.concurrency)
        self._pending: dict[str, asyncio.Task[Completion]] = {}
        self._failures = 0

    @abstractmethod
    async def _send(self, request: Request) -> Completion:
        """Ask once through the SDK, without retries; may raise whatever it raises."""

    @abstractmethod
    async def _close(self) -> None:
        """Close connections."""

    def parameters(self, request: Request) -> dict[str, Any]:
        """Body of a request, for batch endpoints; providers without one have none."""
        raise NotImplementedError(f"{self.provider} has no batch endpoint")

    async def complete(
        self, request: Request, usable: Callable[[Completion], bool] = lambda _: True
    ) -> Completion:
        """The cached completion, or a new one; never raises for a single fault of the provider.

        Two calls for the same completion at the same time ask once. A call that has been sent is
        seen through, paid and kept even if whoever asked is cancelled; one that waits for its
        turn is not sent.

        Args:
            request: what to ask.
            usable: whether a cached completion can be read; one that cannot is asked for again.

        Raises:
            SpendLimitError: the limit is reached; nothing was sent.
            UserError: the key is missing.
            JudgeError: the provider rejects the key, has no credit, does not know the model, or
                has failed many times in a row.
        """
        key = self.key_of(request)
        if (stored := self._stored(key, usable)) is not None:
            return stored
        async with self._slots:
            # Whoever had the slot before may have asked for the same.
            if (stored := self._stored(key, usable)) is not None:
                return stored
            if (pending := self._pending.get(key)) is not None:
                return _free(await asyncio.shield(pending))
            task = self._pending[key] = asyncio.create_task(self._ask(key, request))
            task.add_done_callback(lambda done: self._ended(key, done))
            return self._watched(await asyncio.shield(task))

    async def ready(self) -> None:
        """Ask one tiny question, so that a judge that cannot answer is known before a run.

        Raises:
            JudgeError: it does not answer; says why.
            SpendLimitError: the limit is reached.
        """
        self._may_send()
        system, user = "You are asked whether you can be reached.", "Answer with the word ready."
        tiny = Request(system, user, max_tokens=64, purpose="preflight")
        completion = await self._answer(tiny, tries=3)
        self._pay(tiny.purpose, completion)
        if completion.stop is Stop.FAILED:
            raise self._rejection(completion)

    def key_of(self, request: Request) -> str:
        """SHA-256 of all that can change the answer."""
        asked = {**asdict(request), "purpose": ""}
        return json_digest(["completion", self.provider, self.base_url, self.model, asked])

    def _stored(self, key: str, usable: Callable[[Completion], bool]) -> Completion | None:
        data = self.store.get(key) if self.store is not None else None
        if data is None:
            return None
        try:
            completion = restore(Completion, data)
        except ValueError:
            return None
        return completion if completion.complete and usable(completion) else None

    def _may_send(self) -> None:
        if self.missing_key is not None:
            raise self.missing_key
        self.ledger.check()

    async def _ask(self, key: str, request: Request) -> Completion:
        self._may_send()
        return self._arrived(key, request.purpose, await self._answer(request))

    def _arrived(
        self, key: str, purpose: str, completion: Completion, paid_as: str = ""
    ) -> Completion:
        """Pay for an answer and keep it, also where one of the two cannot be written down."""
        try:
            if completion.stop is not Stop.FAILED or completion.cost:
                self._pay(purpose, completion, paid_as)
        finally:
            if completion.complete and self.store is not None:
                self.store.put(key, plain(_free(completion)))
        return completion

    def _pay(self, purpose: str, answer: Completion, paid_as: str = "") -> None:
        self.ledger.pay(purpose, answer.model or self.model, answer.usage, answer.cost, paid_as)

    async def _answer(self, request: Request, tries: int = 0) -> Completion:
        """Ask until there is an answer or a fault that stays."""
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(tries or self.calls.retries + 1),
            retry=tenacity.retry_if_exception(self._passes),
            wait=_wait,
            reraise=True,
        )
        try:
            return self.checked(request, await retrying(self._send, request))
        except Exception as error:
            # Whatever a server sends is a status: bodies have more forms than can be foreseen.
            asked = asked_delay(error) or 0.0
            long = f"; it asks to wait {asked:.0f} s" if asked > self.calls.longest_wait else ""
            return failed(fault_of(error, self.transport), self.scrub(describe(error) + long))

    def _passes(self, error: BaseException) -> bool:
        return (
            isinstance(error, Exception)
            and fault_of(error, self.transport) in PASSING
            and (asked_delay(error) or 0.0) <= self.calls.longest_wait
        )

    def checked(
        self, request: Request, completion: Completion, *, batch: bool = False
    ) -> Completion:
        """Price a completion; refuse the answer of another model than the one asked.

        Providers reroute retired ids to their successors, which would put one judge's verdicts
        under another's name. Numbers of tokens that cannot be are priced by the length of the
        texts, and the answer is not believed.
        """
        text, model = self.scrub(completion.text), self.scrub(completion.model)
        completion = replace(completion, text=text, model=model)
        if completion.stop is Stop.FAILED:
            return completion
        sane = completion.usage.sane
        usage = completion.usage if sane else estimated_usage(request, completion.text)
        cost = prices.dollars(self.model, usage, batch=batch)
        completion = replace(completion, usage=usage, cost=cost)
        if not sane:
            return replace(completion, stop=Stop.FAILED, fault=Fault.MALFORMED)
        if self._verify_model and completion.model and not _same(completion.model, self.model):
            text = f"asked {self.model}, answered by {completion.model}: {completion.text}"
            return replace(completion, stop=Stop.FAILED, fault=Fault.WRONG_MODEL, text=text)
        return completion

    def _watched(self, completion: Completion) -> Completion:
        """End the run where no further call can be expected to succeed."""
        if completion.stop is not Stop.FAILED:
            self._failures = 0
            return completion
        self._failures += 1
        if completion.fault in LASTING or self._failures >= self.calls.patience:
            raise self._rejection(completion)
        return completion

    def _rejection(self, completion: Completion) -> JudgeError:
        fault = completion.fault or Fault.MALFORMED
        row = f"; {self._failures} calls in a row failed" if self._failures > 1 else ""
        text = " ".join(completion.text.split())[:300]
        return JudgeError(
            f"judge {self.model} at {self.base_url} {MEANING[fault]} ({fault}: {text}){row}; "
            "next: mend it, then repeat the command to go on"
        )

    def scrub(self, text: str) -> str:
        """Text without anything that looks like a key, and that can be written to a file."""
        if self._key:
            text = text.replace(self._key, "***")
        return _KEYS.sub("***", text).encode("utf-8", "replace").decode()

    def _ended(self, key: str, task: asyncio.Task[Completion]) -> None:
        self._pending.pop(key, None)
        if not task.cancelled():
            task.exception()  # Raised to whoever waits; nobody may be left to.

    async def close(self, grace: float = GRACE) -> None:
        """Wait a little for what is on its way, then close connections and the cache."""
        pending = list(self._pending.values())
        if pending:
            await asyncio.wait(pending, timeout=grace)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self._close()
        if self.store is not None:
            self.store.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r})"


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds to the next try: what the provider asks for, else exponential with jitter."""
    asked = asked_delay(state.outcome.exception() if state.outcome else None)
    backoff = tenacity.wait_exponential_jitter(initial=0.5, max=8.0, jitter=0.5)
    return float(backoff(state)) if asked is None else asked


def _same(answered: str, asked: str) -> bool:
    """Whether two ids name one model: equal, or the asked one followed by a date."""
    rest = answered.removeprefix("models/").removeprefix(asked)
    return rest != answered and re.fullmatch(r"(-\d[\d-]*)?", rest) is not None
