"""Claude through Anthropic's SDK."""

from __future__ import annotations

import warnings
from typing import Any

import anthropic
import httpx2
from anthropic.types import Message

from esr.judge.client import (
    RETRIES,
    TIMEOUT,
    Client,
    Completion,
    Fault,
    Request,
    Stop,
    failed,
)
from esr.judge.prices import Usage

BASE_URL = "https://api.anthropic.com"

# The API version the SDK sends by default refuses sampling parameters; the one before takes them.
# https://platform.claude.com/docs/en/api/versioning
_VERSION_WITH_TEMPERATURE = "2023-06-01"
_STOPS = {"refusal": Stop.REFUSED, "max_tokens": Stop.LENGTH}


class AnthropicClient(Client):
    """Messages API. The system prompt and the fixed start are marked for prompt caching."""

    provider = "anthropic"

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self.faults = (anthropic.AnthropicError, httpx2.HTTPError, ValueError)
        # The end of a model is announced once, by esr.judge.notice, not at every call.
        warnings.filterwarnings("ignore", "The model .* is deprecated", DeprecationWarning)
        self.sdk = anthropic.AsyncAnthropic(
            api_key=self._key, base_url=self.base_url, timeout=TIMEOUT, max_retries=RETRIES
        )

    def parameters(self, request: Request) -> dict[str, Any]:
        """Body of a message request; the same in a batch."""
        cached = {"cache_control": {"type": "ephemeral"}}
        content: list[dict[str, Any]] = [{"type": "text", "text": request.user}]
        if request.fixed:
            content.insert(0, {"type": "text", "text": request.fixed, **cached})
        parameters: dict[str, Any] = {
            "model": self.model,
            "max_tokens": request.max_tokens,
            "system": [{"type": "text", "text": request.system, **cached}],
            "messages": [{"role": "user", "content": content}],
        }
        if request.schema is not None:
            schema = {"type": "json_schema", "schema": request.schema}
            parameters["output_config"] = {"format": schema}
        return parameters

    async def _send(self, request: Request) -> Completion:
        extra: dict[str, Any] = {}
        if request.temperature is not None:
            extra["extra_headers"] = {"anthropic-version": _VERSION_WITH_TEMPERATURE}
            extra["extra_body"] = {"temperature": request.temperature}
        message = await self.sdk.messages.create(**self.parameters(request), **extra)
        return read(message)

    async def close(self) -> None:
        await self.sdk.close()


def read(message: Message) -> Completion:
    """A message as a completion."""
    if not isinstance(message, Message) or not isinstance(message.content, list):
        return failed(Fault.MALFORMED, str(message))
    text = "".join(block.text for block in message.content if block.type == "text")
    stop = _STOPS.get(message.stop_reason or "", Stop.END)
    if stop is Stop.REFUSED and message.stop_details is not None:
        text = text or str(message.stop_details)
    return Completion(text, stop, _usage(message), model=message.model)


def _usage(message: Message) -> Usage:
    usage = message.usage
    if usage is None:
        return Usage()
    read_back = usage.cache_read_input_tokens or 0
    written = usage.cache_creation_input_tokens or 0
    # Anthropic counts cached tokens beside input_tokens, the others count them within.
    total = usage.input_tokens + read_back + written
    return Usage(total, usage.output_tokens, read_back, written)


class AnthropicBatches:
    """Message batches (:class:`esr.judge.batch.BatchApi`)."""

    def __init__(self, client: AnthropicClient) -> None:
        self._batches = client.sdk.messages.batches
        # No retries: a batch whose receipt is lost must be found again, not sent twice.
        self._once = client.sdk.with_options(max_retries=0).messages.batches

    async def submit(self, bodies: dict[str, dict[str, Any]], mark: str) -> str:  # noqa: ARG002
        """Send a batch; Anthropic has no place for a mark."""
        requests: Any = [{"custom_id": key, "params": body} for key, body in bodies.items()]
        return (await self._once.create(requests=requests)).id

    async def find(self, mark: str, since: float, count: int) -> str | None:  # noqa: ARG002
        """The first batch of that size since then. Its results are matched by id anyway."""
        recent = [batch async for batch in self._batches.list(limit=100)][:100]
        for batch in reversed(recent):
            counts = batch.request_counts
            total = (
                counts.processing
                + counts.succeeded
                + counts.errored
                + counts.canceled
                + counts.expired
            )
            if total == count and batch.created_at.timestamp() >= since - 60:
                return batch.id
        return None

    async def finished(self, batch: str) -> bool:
        """Whether the batch has ended."""
        return (await self._batches.retrieve(batch)).processing_status == "ended"

    async def results(self, batch: str) -> dict[str, Completion]:
        """Completions by request id."""
        found = {}
        async for item in await self._batches.results(batch):
            if item.result.type == "succeeded":
                found[item.custom_id] = read(item.result.message)
            else:
                found[item.custom_id] = failed(Fault.SERVER, item.result.to_json())
        return found
