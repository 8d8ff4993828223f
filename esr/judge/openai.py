"""OpenAI, OpenRouter and every server that speaks OpenAI's protocol, through OpenAI's SDK."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion

from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop, failed
from esr.judge.faults import Fault
from esr.judge.prices import Usage

BASE_URL = "https://api.openai.com/v1"
_STOPS = {"content_filter": Stop.FILTERED, "length": Stop.LENGTH}


class OpenAIClient(Client):
    """Chat completions. OpenAI caches repeated prefixes by itself: the system prompt goes first."""

    transport = (openai.OpenAIError, httpx2.HTTPError, OSError)

    def __init__(self, model: str, *, provider: str = "openai", **options: Any) -> None:
        super().__init__(model, **options)
        self.provider = provider
        self.sdk = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.base_url,
            timeout=self.calls.timeout,
            max_retries=0,
        )

    def parameters(self, request: Request) -> dict[str, Any]:
        """Body of a chat completion; the same in a batch."""
        # Reasoning models at OpenAI know only the newer name of the cap, other servers the older.
        cap = "max_completion_tokens" if self.provider == "openai" else "max_tokens"
        parameters: dict[str, Any] = {
            "model": self.model,
            cap: request.max_tokens,
            "messages": [
                {"role": "system", "content": request.system},
                {"role": "user", "content": request.fixed + request.user},
            ],
        }
        if request.temperature is not None:
            parameters["temperature"] = request.temperature
        if request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": request.schema}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        return parameters

    async def _send(self, request: Request) -> Completion:
        answer = await self.sdk.chat.completions.create(**self.parameters(request))
        return read(answer)

    async def _close(self) -> None:
        await self.sdk.close()


def read(answer: ChatCompletion) -> Completion:
    """A chat completion as a completion."""
    if not isinstance(answer, ChatCompletion) or not answer.choices:
        # OpenRouter reports an upstream fault as {"error": ...} with status 200.
        return failed(Fault.MALFORMED, str(answer))
    choice = answer.choices[0]
    message = choice.message
    if message is None:
        return failed(Fault.MALFORMED, str(answer))
    usage = _usage(answer.usage)
    if getattr(message, "refusal", None):
        return Completion(message.refusal or "", Stop.REFUSED, usage, model=answer.model)
    stop = _STOPS.get(choice.finish_reason or "", Stop.END)
    return Completion(message.content or "", stop, usage, model=answer.model)


def _usage(usage: CompletionUsage | None) -> Usage:
    if usage is None:
        return Usage()
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens or 0) if details is not None else 0
    charged = getattr(usage, "cost", None)  # OpenRouter
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        cached,
        charged=float(charged) if isinstance(charged, int | float) else None,
    )
