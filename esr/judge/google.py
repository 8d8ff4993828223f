"""Gemini through Google's SDK."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import tenacity
from google import genai
from google.genai import errors, types

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

BASE_URL = "https://generativelanguage.googleapis.com"
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_LONGEST_WAIT = 120.0
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

    def __init__(self, model: str, **options: Any) -> None:
        super().__init__(model, **options)
        self.faults = (errors.APIError, httpx2.HTTPError, ValueError)
        self._http = httpx2.AsyncClient(timeout=TIMEOUT)
        http_options = types.HttpOptions(
            base_url=self.base_url,
            timeout=int(TIMEOUT * 1000),
            httpx_async_client=self._http,
        )
        self.sdk = genai.Client(api_key=self._key, vertexai=False, http_options=http_options)
        # The SDK's retries do not wait as long as the server asks them to
        # (https://github.com/googleapis/python-genai/issues/1875), so they stay switched off and
        # the library they are made with is told to.
        self._retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(RETRIES + 1),
            retry=tenacity.retry_if_exception(_transient),
            wait=_wait,
            reraise=True,
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
        answer: types.GenerateContentResponse = await self._retrying(
            self.sdk.aio.models.generate_content,
            model=self.model,
            contents=request.fixed + request.user,
            config=config,
        )
        return read(answer)

    async def close(self) -> None:
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


def _transient(error: BaseException) -> bool:
    if isinstance(error, errors.APIError):
        return error.code in _RETRIED
    return isinstance(error, httpx2.TransportError)


def _wait(state: tenacity.RetryCallState) -> float:
    """Seconds to the next try: what the server asks for, else exponential with jitter."""
    error = state.outcome.exception() if state.outcome else None
    asked = asked_delay(error) if isinstance(error, errors.APIError) else None
    if asked is not None:
        return min(asked, _LONGEST_WAIT)
    return float(tenacity.wait_exponential_jitter(initial=0.5, max=8.0, jitter=0.5)(state))


def asked_delay(error: errors.APIError) -> float | None:
    """Seconds a server asks to wait: ``retry-after``, or ``RetryInfo`` in the body."""
    headers = getattr(error.response, "headers", None) or {}
    try:
        return float(headers["retry-after"])
    except (KeyError, ValueError):
        found = re.search(r"'retryDelay': '([\d.]+)s'", str(error.details))
        return float(found.group(1)) if found else None
