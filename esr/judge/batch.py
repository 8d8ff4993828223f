"""Verdicts at half price through the providers' batch endpoints, resumable after a kill.

A batch takes up to a day. Which batch holds which verdict is journaled before and after it is
sent, so that a repeated command waits for the batch that is under way instead of sending another.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from esr.errors import UserError
from esr.judge.base import JudgeInfo, JudgeRequest, Verdict
from esr.judge.cache import verdict_key
from esr.judge.client import Completion, Fault, failed, fault_of
from esr.judge.llm import LlmJudge, verdict
from esr.runs.journal import Journal

MAX_REQUESTS = 10_000
"""Requests of one batch; both providers allow more, but limit the bytes as well."""

QUIET_SECONDS = 10.0
"""A batch is sent once no new request has come for so long."""

POLL_SECONDS = 60.0


class BatchApi(Protocol):
    """A provider's batch endpoint.

    Any method may raise the client's faults.
    """

    async def submit(self, bodies: dict[str, dict[str, Any]], mark: str) -> str:
        """Send requests by id; ``mark`` names the batch where the provider lets it. Its id."""
        ...

    async def find(self, mark: str, since: float, count: int) -> str | None:
        """A batch of ours that was sent, but whose id was not journaled."""
        ...

    async def finished(self, batch: str) -> bool:
        """Whether the batch has ended, one way or the other."""
        ...

    async def results(self, batch: str) -> dict[str, Completion]:
        """Completions by request id; what the provider did not answer is left out."""
        ...


class BatchJudge:
    """A judge that gathers requests into batches (:class:`esr.judge.base.Judge`).

    Meant to stand inside a :class:`esr.judge.cache.CachedJudge`, which keeps the answers.

    Args:
        judge: model and rubric.
        state: journal of the batches, beside the run.
        quiet: seconds without a new request after which a batch is sent.
        poll: seconds between looks at a batch under way.
    """

    def __init__(
        self,
        judge: LlmJudge,
        state: Path,
        quiet: float = QUIET_SECONDS,
        poll: float = POLL_SECONDS,
    ) -> None:
        self.judge = judge
        self.api = _api(judge)
        self.journal = Journal(state)
        self._quiet, self._poll = quiet, poll
        self._asked: dict[str, JudgeRequest] = {}
        self._queue: dict[str, JudgeRequest] = {}
        self._answers: dict[str, asyncio.Future[Completion]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._last = 0.0
        self._mark_of = {
            key: mark
            for mark, sent in self.journal.values("requests")
            for key in sent["keys"]
            if self.journal.get("dropped", key) != mark
        }

    @property
    def info(self) -> JudgeInfo:
        """The judge's own identity: a batch changes the price, not the answer."""
        return self.judge.info

    async def grade(self, request: JudgeRequest) -> Verdict:
        """The verdict, once its batch has ended; a provider's fault is a status."""
        key = verdict_key(self.info, request)
        if key not in self._answers:
            self._answers[key] = asyncio.get_running_loop().create_future()
            self._asked[key] = request
            mark = self._mark_of.get(key)
            if mark is None:
                self._queue[key] = request
                self._last = time.monotonic()
                self._start("send", self._send_when_quiet())
            else:
                self._start(mark, self._collect(mark))
        completion = await asyncio.shield(self._answers[key])
        return verdict(completion, request.response)

    async def close(self) -> None:
        """Stop waiting; batches under way stay under way."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self.journal.close()
        await self.judge.close()

    def _start(self, name: str, work: Any) -> None:
        if name in self._tasks and not self._tasks[name].done():
            work.close()
            return
        self._tasks[name] = asyncio.create_task(work)

    async def _send_when_quiet(self) -> None:
        while self._queue:
            waited = time.monotonic() - self._last
            if waited < self._quiet and len(self._queue) < MAX_REQUESTS:
                await asyncio.sleep(self._quiet - waited)
                continue
            keys = list(self._queue)[:MAX_REQUESTS]
            await self._send({key: self._queue.pop(key) for key in keys})

    async def _send(self, requests: dict[str, JudgeRequest]) -> None:
        mark = uuid.uuid4().hex
        rubric, output = self.judge.rubric, self.judge.output
        bodies = {
            key: self.judge.client.parameters(rubric.request(request, output))
            for key, request in requests.items()
        }
        self.journal.put("requests", mark, {"keys": list(requests), "sent": time.time()})
        self._mark_of.update(dict.fromkeys(requests, mark))
        try:
            batch = await self.api.submit(bodies, mark)
        except self.judge.client.faults as error:
            # It may have arrived all the same: repeating the command looks for it first.
            self._fail(requests, error)
            return
        self.journal.put("batch", mark, batch)
        self._start(mark, self._collect(mark))

    async def _collect(self, mark: str) -> None:
        """Wait for a batch and hand out its answers."""
        sent = self.journal.get("requests", mark) or {}
        keys = [key for key in sent["keys"] if self._mark_of.get(key) == mark]
        try:
            batch = self.journal.get("batch", mark)
            batch = batch or await self.api.find(mark, sent["sent"], len(sent["keys"]))
            if batch is None:
                self._requeue(keys)
                return
            self.journal.put("batch", mark, batch)
            while not await self.api.finished(batch):
                await asyncio.sleep(self._poll)
            results = await self.api.results(batch)
        except self.judge.client.faults as error:
            # The batch is still there: repeating the command looks again.
            self._fail(keys, error)
            return
        missing = failed(Fault.MALFORMED, f"batch {batch} has no answer to this request")
        for key in keys:
            completion = self.judge.client.checked(results.get(key, missing), batch=True)
            self._answer(key, completion)
            if not verdict(completion, "").answered:
                self.journal.put("dropped", key, mark)

    def _requeue(self, keys: Sequence[str]) -> None:
        """Send again what was journaled but never reached the provider."""
        for key in keys:
            self._mark_of.pop(key, None)
            if key in self._asked:
                self._queue[key] = self._asked[key]
        self._last = time.monotonic()
        self._start("send", self._send_when_quiet())

    def _fail(self, keys: Sequence[str] | dict[str, Any], error: Exception) -> None:
        text = self.judge.client.scrub(f"{type(error).__name__}: {error}")
        for key in keys:
            self._answer(key, failed(fault_of(error), text))

    def _answer(self, key: str, completion: Completion) -> None:
        future = self._answers.get(key)
        if future is not None and not future.done():
            future.set_result(completion)


async def grade_batch(judge: BatchJudge, requests: Sequence[JudgeRequest]) -> list[Verdict]:
    """Verdicts of many responses, in order."""
    return list(await asyncio.gather(*(judge.grade(request) for request in requests)))


def _api(judge: LlmJudge) -> BatchApi:
    client = judge.client
    if client.provider == "anthropic":
        from esr.judge.anthropic import AnthropicBatches, AnthropicClient

        return AnthropicBatches(cast(AnthropicClient, client))
    if client.provider == "openai":
        from esr.judge.openai import OpenAIBatches, OpenAIClient

        return OpenAIBatches(cast(OpenAIClient, client))
    raise UserError(
        f"judge {client.model} has no batch endpoint",
        "haiku, sonnet, gpt-5-mini",
        "leave out --judge-batch",
    )
