"""OpenAI, OpenRouter and every server that speaks OpenAI's protocol, through OpenAI's SDK."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion

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

BASE_URL = "https://api.openai.com/v1"
_STOPS = {"content_filter": Stop.FILTERED, "length": Stop.LENGTH}


class OpenAIClient(Client):
    """Chat completions. OpenAI caches repeated prefixes by itself: the system prompt goes first."""

    def __init__(self, model: str, *, provider: str = "openai", **options: Any) -> None:
        super().__init__(model, **options)
        self.provider = provider
        self.faults = (openai.OpenAIError, httpx2.HTTPError, ValueError)
        self.sdk = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=self.base_url,
            timeout=TIMEOUT,
            max_retries=RETRIES,
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

    async def close(self) -> None:
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


class OpenAIBatches:
    """Batches of chat completions (:class:`esr.judge.batch.BatchApi`)."""

    def __init__(self, client: OpenAIClient) -> None:
        self._sdk = client.sdk

    async def submit(self, bodies: dict[str, dict[str, Any]], mark: str) -> str:
        """Upload the requests and start a batch; the mark goes into its metadata."""
        url = "/v1/chat/completions"
        lines = (
            json.dumps({"custom_id": key, "method": "POST", "url": url, "body": body})
            for key, body in bodies.items()
        )
        content = "\n".join(lines).encode()
        file = await self._sdk.files.create(file=("requests.jsonl", content), purpose="batch")
        # No retries: a batch whose receipt is lost must be found again, not sent twice.
        batch = await self._sdk.with_options(max_retries=0).batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={"esr": mark},
        )
        return batch.id

    async def find(self, mark: str, since: float, count: int) -> str | None:  # noqa: ARG002
        """The batch with that mark, among the latest."""
        recent = await self._sdk.batches.list(limit=100)
        for batch in recent.data:
            if (batch.metadata or {}).get("esr") == mark:
                return batch.id
        return None

    async def finished(self, batch: str) -> bool:
        """Whether the batch has ended."""
        state = (await self._sdk.batches.retrieve(batch)).status
        return state in ("completed", "failed", "expired", "cancelled")

    async def results(self, batch: str) -> dict[str, Completion]:
        """Completions by request id, errors included."""
        ended = await self._sdk.batches.retrieve(batch)
        found = {}
        for file in (ended.output_file_id, ended.error_file_id):
            if file:
                content = await self._sdk.files.content(file)
                for line in content.text.splitlines():
                    item = json.loads(line)
                    found[item["custom_id"]] = _batched(item)
        return found


def _batched(item: dict[str, Any]) -> Completion:
    response = item.get("response") or {}
    if response.get("status_code") != 200:
        return failed(Fault.SERVER, json.dumps(item.get("error") or response.get("body")))
    return read(ChatCompletion.model_validate(response["body"]))
