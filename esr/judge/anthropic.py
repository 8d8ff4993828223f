"""Claude through Anthropic's SDK."""

from __future__ import annotations

import warnings
from typing import Any

import anthropic
import httpx2
from anthropic.types import Message

from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop, failed
from esr.judge.faults import Fault
from esr.judge.prices import Usage

BASE_URL = "https://api.anthropic.com"

# The API version the SDK sends by default refuses sampling parameters; the one before takes them.
# https://platform.claude.com/docs/en/api/versioning
_VERSION_WITH_TEMPERATURE = "2023-06-01"
_STOPS = {"refusal": Stop.REFUSED, "max_tokens": Stop.LENGTH}


class AnthropicClient(Client):
    """Messages API. The system prompt and the fixed start are marked for prompt caching."""

    provider = "anthropic"
    transport = (anthropic.AnthropicError, httpx2.HTTPError, OSError)

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        # The end of a model is announced once, by esr.judge.notice, not at every call.
        warnings.filterwarnings("ignore", "The model .* is deprecated", DeprecationWarning)
        self.sdk = anthropic.AsyncAnthropic(
            api_key=self._key or "none",
            base_url=self.base_url,
            timeout=self.calls.timeout,
            max_retries=0,
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

    async def _close(self) -> None:
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
