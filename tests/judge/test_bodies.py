"""Whatever a judge's server sends is a status with its text; what it charges is counted."""

from __future__ import annotations

import json
import time
from asyncio import gather
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from esr import judge
from esr.errors import JudgeError, UserError
from esr.judge import CallSettings, JudgeRequest, Status, Verdict
from esr.judge.llm import LlmJudge
from esr.judge.parsing import read_attempts
from esr.runs.journal import Journal
from tests.judge_replies import ANSWER, Reply
from tests.judge_server import JudgeServer

NAMES = {
    "anthropic": ("haiku", ""),
    "openai": ("gpt-5-mini", "/v1"),
    "google": ("gemini-2.5-flash", ""),
}
ONCE = CallSettings(retries=0)
QUESTION = JudgeRequest("How do I add fractions?", "Find a common denominator.", "volcanoes")


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC", "OPENAI", "GEMINI"):
        monkeypatch.setenv(f"{variable}_API_KEY", "sk-test-0123456789abcdef")


@pytest.fixture
async def server() -> AsyncIterator[JudgeServer]:
    async with JudgeServer().running() as running:
        yield running


def judge_of(
    server: JudgeServer, provider: str, folder: Path, calls: CallSettings = ONCE
) -> LlmJudge:
    name, suffix = NAMES[provider]
    cache = folder / "cache.sqlite"
    grader = judge.create(f"{name}@{server.url}{suffix}", cache=cache, calls=calls)
    assert isinstance(grader, LlmJudge)
    return grader


async def ask(server: JudgeServer, provider: str, folder: Path) -> tuple[Verdict, float]:
    """The verdict, once through the journal, and what it cost."""
    grader = judge_of(server, provider, folder)
    journal = Journal(folder / "journal.jsonl")
    grader.client.ledger.open(journal)
    try:
        verdict = await grader.grade(QUESTION)
    finally:
        await grader.close()
    journal.put("verdict", "v", verdict.to_json())
    journal.close()
    assert Verdict.from_json(Journal(journal.path).get("verdict", "v") or {}) == verdict
    return verdict, grader.client.ledger.spent


def openai_body(**changes: Any) -> dict[str, Any]:
    """A good body, with keys of its choice and message replaced."""
    message = {"role": "assistant", "content": ANSWER, "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    body = {"id": "c", "object": "chat.completion", "created": 0, "model": "gpt-5-mini-2025-08-07"}
    return {**body, "choices": [choice], "usage": usage, **changes}


def message(**changes: Any) -> list[dict[str, Any]]:
    return [{"index": 0, "message": {"role": "assistant", **changes}, "finish_reason": "stop"}]


DEEP = "[" * 5000 + "]" * 5000
LONG_NUMBER = "9" * 5000
BODIES = {
    "null choice": openai_body(choices=[None]),
    "choices no list": openai_body(choices={"a": 1}),
    "message is text": openai_body(choices=[{"index": 0, "message": "hi"}]),
    "no message": openai_body(choices=[{"index": 0, "message": None}]),
    "content is a list": openai_body(choices=message(content=[{"type": "text", "text": "a"}])),
    "content is a number": openai_body(choices=message(content=7)),
    "usage is text": openai_body(usage="much"),
    "usage of nothing": openai_body(usage={"prompt_tokens": None, "completion_tokens": 1}),
    "model is a number": openai_body(model=4),
    "a list": [1, 2],
    "text": "hello",
    "null": None,
    "empty": {},
}


@pytest.mark.parametrize("name", BODIES)
async def test_unforeseen_bodies_of_openai(name: str, server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(raw=json.dumps(BODIES[name]))
    verdict, _ = await ask(server, "openai", tmp_path)
    assert (verdict.status, verdict.reason) == (Status.FAILED, "malformed_response")


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize(
    "raw",
    [
        *("", "{", "null", "[]", "7", '"x"', "{}", "<html>proxy</html>", f'{{"a": {DEEP}}}'),
        *(f'{{"a": {LONG_NUMBER}}}', f'{{"usage": {LONG_NUMBER}}}', '{"content": [null]}'),
        *('{"candidates": [null]}', '{"candidates": "x", "usageMetadata": []}', "\x00\x01"),
    ],
)
async def test_bodies_that_are_no_answer(
    raw: str, provider: str, server: JudgeServer, tmp_path: Path
) -> None:
    server.behaviour = lambda _: Reply(raw=raw)
    verdict, _ = await ask(server, provider, tmp_path)
    assert verdict.status in (Status.FAILED, Status.UNPARSEABLE)
    assert verdict.reason
    assert not verdict.attempts


@pytest.mark.parametrize("provider", NAMES)
async def test_half_a_character(provider: str, server: JudgeServer, tmp_path: Path) -> None:
    raw, escaped = (
        "half \ud83d here",
        '<json>{"attempts": [{"attempt_text": "\\ud83d", "score": 5}]}',
    )
    server.behaviour = lambda _: Reply(raw + escaped)
    verdict, _ = await ask(server, provider, tmp_path)
    assert (verdict.status, verdict.first_score) == (Status.GRADED, 5.0)
    assert "half ? here" in verdict.raw
    assert verdict.attempts[0].text == "?"


@pytest.mark.parametrize(
    "text",
    [
        f'{{"attempts": [{{"attempt_text": "a", "score": {LONG_NUMBER}}}]}}',
        f'{{"attempts": {DEEP}}}',
        '{"attempts": [{"attempt_text": ["a"], "score": 5}]}',
        '{"attempts": [[]]}',
        '{"attempts": {"attempt_text": "a", "score": 5}}',
    ],
)
async def test_answers_that_are_no_verdict(text: str, server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(text)
    verdict, cost = await ask(server, "anthropic", tmp_path)
    assert verdict.status is Status.UNPARSEABLE
    assert verdict.raw == text
    assert cost > 0


@pytest.mark.parametrize("provider", NAMES)
@pytest.mark.parametrize("usage", [(-5, 100, 0), (1000, -7, 0), (10, 5, 400), (1.5, 3, 0)])
async def test_usage_that_cannot_be_is_not_believed_but_paid(
    usage: tuple[Any, Any, Any], provider: str, server: JudgeServer, tmp_path: Path
) -> None:
    server.behaviour = lambda _: Reply(usage=usage)
    verdict, cost = await ask(server, provider, tmp_path)
    assert (verdict.status, verdict.reason) == (Status.FAILED, "malformed_response")
    assert cost >= 0
    assert verdict.input_tokens >= 0


@pytest.mark.parametrize("charge", ["NaN", "Infinity", "-3"])
async def test_a_charge_that_cannot_be(charge: str, server: JudgeServer, tmp_path: Path) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1, "total_tokens": 11, "cost": 42}
    raw = json.dumps(openai_body(usage=usage)).replace("42", charge)
    server.behaviour = lambda _: Reply(raw=raw)
    verdict, cost = await ask(server, "openai", tmp_path)
    assert verdict.reason == "malformed_response"
    assert 0 < cost < 0.1, "priced by the length of the texts"


@pytest.mark.parametrize(
    "text",
    [
        *("{" * 200_000, '{"a":' * 40_000, '{"' * 100_000, "<think>" * 30_000, "<json>" * 30_000),
        *('{"a":[' * 900 + "1," * 80_000, "```" + " " * 200_000 + "x", "\n{" * 100_000),
        *('{"a":{"b":1},' * 15_000, "{}" * 100_000, '{"a":' + "9" * 200_000),
    ],
)
def test_long_answers_are_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    assert read_attempts(text)[0] is Status.UNPARSEABLE
    assert time.process_time() - start < 1, "a quadratic one takes minutes"


async def test_a_long_wait_that_is_asked_for_is_said(server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply("slow down", status=429, headers={"retry-after": "3600"})
    calls = CallSettings(retries=3, longest_wait=300.0)
    for provider in ("anthropic", "openai"):
        grader = judge_of(server, provider, tmp_path, calls)
        start = time.monotonic()
        verdict = await grader.grade(QUESTION)
        await grader.close()
        assert (verdict.status, verdict.reason) == (Status.FAILED, "rate_limit")
        assert "asks to wait 3600 s" in verdict.raw
        assert time.monotonic() - start < 5
    assert len(server.calls) == 2


PREFLIGHT = {
    "wrong key": (Reply("invalid x-api-key", status=401), "refuses the key (auth: .*x-api-key"),
    "not allowed": (Reply("forbidden", status=403), "refuses the key (auth"),
    "no credit": (Reply("top up", status=402), "has no credit left for this key (quota"),
    "quota": (Reply("insufficient_quota", status=429), "has no credit left for this key (quota"),
    "unknown model": (Reply("no such model", status=404), "knows no such model or address"),
    "fault": (Reply("oops", status=500), "has a fault of its own (server"),
    "busy": (Reply("busy", status=429), "asks for fewer calls (rate_limit"),
    "refused": (Reply("bad field", status=400), "refuses the question (bad_request"),
    "not JSON": (Reply(raw="<html>proxy</html>"), "answers in another form"),
    "cut": (Reply(cut=True), "cannot be reached (connection"),
    "slow": (Reply(delay=0.5), "does not answer in time (timeout"),
    "another model": (Reply(model="other"), "answers with another model (wrong_model"),
}


async def refused_for(cause: str, provider: str, folder: Path) -> None:
    """One question to a server of its own is refused with the cause, in one line."""
    reply, expected = PREFLIGHT[cause]
    calls = CallSettings(retries=0, timeout=0.2) if cause == "slow" else ONCE
    folder.mkdir()
    async with JudgeServer().running() as server:
        server.behaviour = lambda _: reply
        grader = judge_of(server, provider, folder, calls)
        with pytest.raises(JudgeError, match=expected.replace("(", r"\(")) as caught:
            await grader.client.ready()
        await grader.close()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 600
    assert grader.client.model in line


@pytest.mark.parametrize("provider", NAMES)
async def test_preflight_says_the_cause_in_one_line(provider: str, tmp_path: Path) -> None:
    """All at once, because some are asked a second time after seconds; but a tight limit alone."""
    await gather(
        *(refused_for(cause, provider, tmp_path / cause) for cause in PREFLIGHT if cause != "slow")
    )
    await refused_for("slow", provider, tmp_path / "slow")


ADDRESSES = {
    "http://127.0.0.1:9": r"cannot be reached \(connection.*(refused|[Cc]onnect)",
    "http://no-such-host.invalid": r"cannot be reached \(connection.*gaierror",
    "https://127.0.0.1:{port}": r"cannot be reached \(connection.*(SSL|TLS|ssl)",
    "http://127.0.0.1:{port}/elsewhere": r"knows no such model or address \(not_found",
}


@pytest.mark.parametrize("name", ["haiku", "gpt-5-mini", "gemini-2.5-flash"])
async def test_preflight_of_a_wrong_address(name: str, server: JudgeServer, tmp_path: Path) -> None:
    async def refused(url: str, expected: str) -> None:
        client = judge.create_client(f"{name}@{url}", cache=tmp_path / "c.sqlite", calls=ONCE)
        with pytest.raises(JudgeError, match=expected):
            await client.ready()
        await client.close()

    port = server.url.rpartition(":")[2]
    await gather(*(refused(url.format(port=port), told) for url, told in ADDRESSES.items()))


@pytest.mark.parametrize("key", ["sk-test\nwith-a-break", "sk-tést-0123456789"])
@pytest.mark.parametrize("provider", NAMES)
async def test_preflight_of_a_key_that_cannot_be_sent(
    key: str, provider: str, server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("ANTHROPIC", "OPENAI", "GEMINI"):
        monkeypatch.setenv(f"{variable}_API_KEY", key)
    grader = judge_of(server, provider, tmp_path)
    for ask in (grader.client.ready, lambda: grader.grade(QUESTION)):
        with pytest.raises(UserError, match="holds a line break or a letter") as caught:
            await ask()
        assert key not in str(caught.value)
    await grader.close()
    assert not server.calls


async def test_preflight_is_paid_and_never_cached(server: JudgeServer, tmp_path: Path) -> None:
    grader = judge_of(server, "anthropic", tmp_path)
    await grader.client.ready()
    await grader.client.ready()
    await grader.close()
    assert len(server.calls) == 2
    assert grader.client.ledger.spent > 0
