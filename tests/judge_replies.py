"""What a stand-in for a judge's server is asked and answers, in the providers' own formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ANSWER = '<json>{"attempts": [{"attempt_text": "all of it", "score": 50}]}</json>'


@dataclass(frozen=True)
class Call:
    """A request as the server saw it.

    Attributes:
        provider: by path.
        body: JSON of the request.
        headers: lower-case names.
        user: the user message.
        number: how often this user message has been asked before, from 0.
    """

    provider: str
    body: dict[str, Any]
    headers: dict[str, str]
    user: str
    number: int


@dataclass(frozen=True)
class Reply:
    """What the server does with a request.

    Attributes:
        text: of the answer.
        status: HTTP status; anything but 200 gives the provider's error body.
        stop: the provider's own word for why the answer ended.
        headers: of the response.
        delay: seconds before the answer.
        cut: close the connection in the middle of the body.
        raw: body instead of the provider's format.
        refusal: OpenAI's refusal field.
        blocked: Google's block reason for the prompt; no candidate is given then.
        model: who answers; the model asked for when empty.
        usage: input, output and cached tokens.
        cost: OpenRouter's charge.
    """

    text: str = ANSWER
    status: int = 200
    stop: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False
    raw: str | None = None
    refusal: str | None = None
    blocked: str = ""
    model: str = ""
    usage: tuple[int, int, int] = (1000, 100, 0)
    cost: float | None = None


def anthropic_user(body: dict[str, Any]) -> str:
    """The user message of a request."""
    return "".join(block["text"] for block in body["messages"][0]["content"])


def anthropic_message(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """Anthropic's form of an answer."""
    fresh, out, cached = reply.usage
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": reply.model or body["model"],
        "content": [{"type": "text", "text": reply.text}] if reply.text else [],
        "stop_reason": reply.stop or "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": fresh - cached,
            "output_tokens": out,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0,
        },
    }


def openai_completion(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    """OpenAI's form of an answer."""
    total, out, cached = reply.usage
    message = {"role": "assistant", "content": reply.text, "refusal": reply.refusal}
    usage: dict[str, Any] = {
        "prompt_tokens": total,
        "completion_tokens": out,
        "total_tokens": total + out,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    if reply.cost is not None:
        usage["cost"] = reply.cost
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": reply.model or body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": reply.stop or "stop"}],
        "usage": usage,
    }


def google_response(model: str, reply: Reply) -> dict[str, Any]:
    """Google's form of an answer."""
    total, out, cached = reply.usage
    usage = {
        "promptTokenCount": total,
        "candidatesTokenCount": out - 10,
        "thoughtsTokenCount": 10,
        "cachedContentTokenCount": cached,
    }
    answer: dict[str, Any] = {"usageMetadata": usage, "modelVersion": reply.model or model}
    if reply.blocked:
        answer["promptFeedback"] = {"blockReason": reply.blocked}
    else:
        parts = [{"text": reply.text}] if reply.text else []
        content = {"role": "model", "parts": parts}
        answer["candidates"] = [{"content": content, "finishReason": reply.stop or "STOP"}]
    return answer
