"""Answers at half price through the providers' batch endpoints, resumable after a kill.

A batch takes up to a day. Which batch holds which answer is journaled before and after it is
sent, so that a repeated command waits for the batch that is under way instead of sending another.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import tenacity

from esr.errors import SpendLimitError
from esr.judge import prices
from esr.judge.batch_apis import batch_api
from esr.judge.client import Client
from esr.judge.completion import Completion, Request, estimated_usage, failed
from esr.judge.faults import Fault, describe, fault_of
from esr.judge.prices import Usage
from esr.runs.journal import Journal

T = TypeVar("T")

_REFUSED = frozenset(
    {Fault.AUTH, Fault.QUOTA, Fault.NOT_FOUND, Fault.BAD_REQUEST, Fault.RATE_LIMIT}
)
"""Faults after which a batch has certainly not been taken."""


@dataclass(frozen=True)
class BatchSettings:
    """When batches are sent and looked for.

    Attributes:
        most: requests of one batch; both providers allow more, but limit the bytes as well.
        quiet: seconds without a new request after which a batch is sent.
        poll: seconds between looks at a batch under way.
        settle: seconds after sending in which a batch may be missing from the provider's list.
        clock_margin: seconds by which the provider's clock may be behind ours.
    """

    most: int = 10_000
    quiet: float = 10.0
    poll: float = 60.0
    settle: float = 900.0
    clock_margin: float = 86_400.0


class BatchClient(Client):
    """A client that gathers questions into batches.

    Args:
        client: who is asked; this one shares its cache and its ledger, and closes it.
        state: journal of the batches, beside the run.
        settings: when batches are sent.

    Raises:
        UserError: the provider has no batch endpoint.
    """

    def __init__(self, client: Client, state: Path, settings: BatchSettings | None = None) -> None:
        super().__init__(
            client.model,
            key=client._key,
            base_url=client.base_url,
            calls=client.calls,
            store=client.store,
            ledger=client.ledger,
            missing_key=client.missing_key,
        )
        self.provider, self.transport = client.provider, client.transport  # type: ignore[misc]
        self.client = client
        self.api = batch_api(client)
        self.settings = settings or BatchSettings()
        self.journal = Journal(state)
        self._slots = nullcontext()
        self._asked: dict[str, Request] = {}
        self._queue: dict[str, Request] = {}
        self._answers: dict[str, asyncio.Future[Completion]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last = 0.0
        self._mark_of: dict[str, str] = {}
        for mark, sent in self.journal.values("requests"):
            if self.journal.get("refused", mark) is not None:
                continue
            if self.journal.get("collected", mark) is None:
                self.ledger.reserve(mark, sent["estimate"])
            dropped = self.journal.get
            self._mark_of |= {k: mark for k in sent["keys"] if dropped("dropped", k) != mark}

    async def _send(self, request: Request) -> Completion:
        return await self.client._send(request)

    async def complete(
        self, request: Request, usable: Callable[[Completion], bool] = lambda _: True
    ) -> Completion:
        """As :meth:`Client.complete`, once the batch has ended; what is useless is sent again
        when the command is repeated."""
        completion = await super().complete(request, usable)
        mark = self._mark_of.get(key := self.key_of(request))
        useless = not (completion.complete and usable(completion))
        if useless and mark and self.journal.get("collected", mark) is not None:
            self.journal.put("dropped", key, mark)
            del self._mark_of[key]
        return completion

    async def _ask(self, key: str, request: Request) -> Completion:
        if self.missing_key is not None:
            raise self.missing_key
        self._answers[key] = asyncio.get_running_loop().create_future()
        self._asked[key] = request
        mark = self._mark_of.get(key)
        if mark is None:
            self._enqueue([key])
        else:
            self._start(mark, self._collect(mark))
        return await self._answers[key]

    def _enqueue(self, keys: Iterable[str]) -> None:
        self._queue |= {key: self._asked[key] for key in keys if key in self._asked}
        self._last = time.monotonic()
        self._start("send", self._send_when_quiet())

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        if name in self._tasks and not self._tasks[name].done():
            work.close()
            return
        self._tasks[name] = asyncio.create_task(work)

    async def _send_when_quiet(self) -> None:
        while self._queue:
            waited = time.monotonic() - self._last
            if waited < self.settings.quiet and len(self._queue) < self.settings.most:
                await asyncio.sleep(self.settings.quiet - waited)
                continue
            keys = list(self._queue)[: self.settings.most]
            await self._submit({key: self._queue.pop(key) for key in keys})

    async def _submit(self, requests: dict[str, Request]) -> None:
        estimate = sum(self._estimate(request) for request in requests.values())
        try:
            self.ledger.check(estimate)
        except SpendLimitError as limit:
            for key in requests:
                self._answers[key].set_exception(limit)
            return
        mark = uuid.uuid4().hex
        bodies = {key: self.client.parameters(request) for key, request in requests.items()}
        sent = {"keys": list(requests), "sent": time.time(), "estimate": estimate}
        self.journal.put("requests", mark, sent)
        self.ledger.reserve(mark, estimate)
        self._mark_of |= dict.fromkeys(requests, mark)
        try:
            batch = await self.api.submit(bodies, mark)
        except Exception as error:
            # It may have arrived all the same: repeating the command looks for it first.
            if fault_of(error, self.transport) in _REFUSED:
                self._refuse(mark)
            self._fail(requests, error)
            return
        self.journal.put("batch", mark, batch)
        self._start(mark, self._collect(mark))

    def _estimate(self, request: Request) -> float:
        """US dollars of one answer: thinking, and what is quoted of the response."""
        usage = estimated_usage(request, request.user[: prices.QUOTED_CHARACTERS])
        output = usage.output_tokens + prices.THINKING_TOKENS
        return prices.dollars(self.model, Usage(usage.input_tokens, output), batch=True)

    def _refuse(self, mark: str) -> None:
        """Forget a batch that the provider has not taken."""
        self.journal.put("refused", mark, True)
        self.ledger.release(mark)
        self._mark_of = {key: other for key, other in self._mark_of.items() if other != mark}

    async def _collect(self, mark: str) -> None:
        """Wait for a batch and hand out its answers."""
        sent = self.journal.get("requests", mark) or {}
        keys = [key for key in sent["keys"] if self._mark_of.get(key) == mark]
        try:
            batch = self.journal.get("batch", mark) or await self._find(mark, sent)
            if batch is None:
                self._refuse(mark)
                self._enqueue(keys)
                return
            results = await self._results(batch)
        except Exception as error:
            # The batch is still there: repeating the command looks again.
            self._fail(keys, error)
            return
        missing = failed(Fault.MALFORMED, f"batch {batch} has no answer to this request")
        answers = {}
        for key in keys:
            request = self._asked.get(key) or Request("", "")
            answer = self.client.checked(request, results.get(key, missing), batch=True)
            answers[key] = self._arrived(key, request.purpose, answer, f"{batch}/{key}")
        self.journal.put("collected", mark, batch)
        self.ledger.release(mark)
        for key, answer in answers.items():
            self._hand_out(key, answer)

    async def _results(self, batch: str) -> dict[str, Completion]:
        """Answers of a batch, once it has ended."""
        while not await self._patiently(self.api.finished, batch):
            await asyncio.sleep(self.settings.poll)
        return await self._patiently(self.api.results, batch)

    async def _patiently(self, look: Callable[[str], Awaitable[T]], batch: str) -> T:
        """A look at a batch; a passing fault in a day of looking is no reason to give up."""
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(self.calls.retries + 1),
            retry=tenacity.retry_if_exception(self._passes),
            wait=tenacity.wait_fixed(self.settings.poll),
            reraise=True,
        )
        return await retrying(look, batch)

    async def _find(self, mark: str, sent: dict[str, Any]) -> str | None:
        """The batch whose receipt was lost; None where the provider has never had it."""
        since, count = sent["sent"] - self.settings.clock_margin, len(sent["keys"])
        age = max(0.0, time.time() - sent["sent"])
        until, announced = time.monotonic() + self.settings.settle - age, False
        while True:
            async for batch in self.api.find(mark, since, count):
                if self.api.marked or set(await self._results(batch)) <= set(sent["keys"]):
                    self.journal.put("batch", mark, batch)
                    return batch
            left = until - time.monotonic()
            if left <= 0:
                return None
            if not announced:
                print(
                    f"note: a batch sent {age:.0f} s ago is not in the provider's list; it is sent "
                    f"again if it has not come in {left:.0f} s",
                    file=sys.stderr,
                )
                announced = True
            await asyncio.sleep(min(self.settings.poll, left))

    def _fail(self, keys: Iterable[str], error: Exception) -> None:
        fault = fault_of(error, self.transport)
        for key in keys:
            self._hand_out(key, failed(fault, self.client.scrub(describe(error))))

    def _hand_out(self, key: str, completion: Completion) -> None:
        future = self._answers.get(key)
        if future is not None and not future.done():
            future.set_result(completion)

    async def close(self, grace: float = 0.0) -> None:
        """Stop waiting; batches under way stay under way."""
        await super().close(grace)

    async def _close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.journal.close()
        await self.client.close()
