"""Gemini through Google's SDK."""

from __future__ import annotations

from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop, failed
from esr.judge.faults import Fault
from esr.judge.prices import Usage

BASE_URL = "https://generativelanguage.googleapis.com"
_REFUSALS = frozenset(
    {
        types.FinishReason.SAFETY,
        types.FinishReason.RECITATION,
        types.FinishReason.BLOCKLIST,
        types.FinishReason.PROHIBITED_CONTENT,
        types.FinishReason.SPII,
    }
)


class GoogleClient(Client):
    """generateContent. Gemini caches repeated prefixes by itself."""

    provider = "google"
    transport = (errors.APIError, httpx2.HTTPError, OSError)

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self._http = httpx2.AsyncClient(timeout=self.calls.timeout)
        http_options = types.HttpOptions(
            base_url=self.base_url,
            timeout=int(self.calls.timeout * 1000),
            httpx_async_client=self._http,
        )
        self.sdk = genai.Client(
            api_key=self._key or "none", vertexai=False, http_options=http_options
        )

    async def _send(self, request: Request) -> Completion:
        config = types.GenerateContentConfig(
            system_instruction=request.system,
            max_output_tokens=request.max_tokens,
            temperature=request.temperature,
        )
        if request.schema is not None:
            config.response_mime_type = "application/json"
            config.response_json_schema = request.schema
        contents = request.fixed + request.user
        return read(
            await self.sdk.aio.models.generate_content(
                model=self.model, contents=contents, config=config
            )
        )

    async def _close(self) -> None:
        await self.sdk.aio.aclose()
        await self._http.aclose()


def read(answer: types.GenerateContentResponse) -> Completion:
    """A response as a completion."""
    usage, model = _usage(answer.usage_metadata), answer.model_version or ""
    if not answer.candidates:
        blocked = answer.prompt_feedback and answer.prompt_feedback.block_reason
        if blocked:
            return Completion(str(answer.prompt_feedback), Stop.FILTERED, usage, model=model)
        return failed(Fault.MALFORMED, answer.model_dump_json(exclude_none=True))
    candidate = answer.candidates[0]
    parts = (candidate.content.parts if candidate.content else None) or []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    if candidate.finish_reason in _REFUSALS:
        return Completion(
            text or f"finish reason {candidate.finish_reason}", Stop.FILTERED, usage, model=model
        )
    length = candidate.finish_reason is types.FinishReason.MAX_TOKENS
    return Completion(text, Stop.LENGTH if length else Stop.END, usage, model=model)


def _usage(usage: types.GenerateContentResponseUsageMetadata | None) -> Usage:
    if usage is None:
        return Usage()
    output = (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0)
    return Usage(usage.prompt_token_count or 0, output, usage.cached_content_token_count or 0)
