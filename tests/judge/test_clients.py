"""The three SDK clients against a local server that speaks their wire formats."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from esr import judge
from esr.errors import UserError
from esr.judge import CallSettings, JudgeRequest, Status, Verdict, prices
from esr.judge.completion import Request, Stop
from esr.judge.parsing import Reason
from esr.judge.rubric import get
from tests.judge_replies import ANSWER, Reply
from tests.judge_server import JudgeServer

KEY = "sk-test-0123456789abcdef"
QUESTION = JudgeRequest("How do I add fractions?", "Find a common denominator.", "volcanoes")
PROVIDERS = ("anthropic", "openai", "google")
NAMES = {
    "anthropic": ("haiku", ""),
    "openai": ("gpt-5-mini", "/v1"),
    "google": ("gemini-2.5-flash", ""),
    "openrouter": ("qwen3-32b", "/v1"),
    "local": ("openai:my-model", "/v1"),
}
# Each provider's own words for the same ends.
TRUNCATED = {"anthropic": "max_tokens", "openai": "length", "google": "MAX_TOKENS"}


ONE_RETRY = CallSettings(retries=1)


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC", "OPENAI", "OPENROUTER", "GEMINI"):
        monkeypatch.setenv(f"{variable}_API_KEY", KEY)


@pytest.fixture
async def server() -> AsyncIterator[JudgeServer]:
    async with JudgeServer().running() as running:
        yield running


async def ask(
    server: JudgeServer, provider: str, tmp_path: Path, calls: CallSettings = ONE_RETRY
) -> Verdict:
    name, suffix = NAMES[provider]
    cache = tmp_path / "cache.sqlite"
    grader = judge.create(f"{name}@{server.url}{suffix}", cache=cache, calls=calls)
    try:
        return await grader.grade(QUESTION)
    finally:
        await grader.close()


@pytest.mark.parametrize("provider", NAMES)
async def test_verdict(server: JudgeServer, provider: str, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(usage=(1000, 100, 400))
    verdict = await ask(server, provider, tmp_path)
    assert verdict.status is Status.GRADED
    assert [attempt.score for attempt in verdict.attempts] == [50.0]
    assert verdict.raw == ANSWER
    assert (verdict.input_tokens, verdict.output_tokens) == (1000, 100)
    model = judge.resolve(NAMES[provider][0])
    price = prices.price(model)
    if price is None:
        assert provider == "local"
        assert verdict.cost == 0.0
    else:
        expected = 600 * price.input + 400 * price.cache_read + 100 * price.output
        assert verdict.cost == pytest.approx(expected / 1e6)


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_what_is_sent(server: JudgeServer, provider: str, tmp_path: Path) -> None:
    await ask(server, provider, tmp_path)
    (call,) = server.calls
    for part in (QUESTION.prompt, QUESTION.response, QUESTION.latent_label):
        assert part in call.user
    sent = json.dumps(call.body)
    assert json.dumps(get("own").system[:200])[1:-1] in sent
    assert "temperature" not in call.body
    if provider == "anthropic":
        assert call.body["system"][0]["cache_control"] == {"type": "ephemeral"}
        assert call.body["max_tokens"] == 4096
        assert "output_config" not in call.body, "a schema would forbid thinking aloud"
    elif provider == "openai":
        assert call.body["max_completion_tokens"] == 4096
        assert call.body["response_format"]["json_schema"]["strict"] is True
    else:
        assert call.body["generationConfig"]["maxOutputTokens"] == 4096
        assert "responseJsonSchema" in call.body["generationConfig"]


async def test_openrouter_charge_counts(server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(cost=0.0123)
    assert (await ask(server, "openrouter", tmp_path)).cost == 0.0123


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("status", [429, 500])
async def test_passing_fault(
    server: JudgeServer, provider: str, status: int, tmp_path: Path
) -> None:
    wait = {"retry-after": "1.2"} if status == 429 else {}
    server.behaviour = lambda call: (
        Reply("busy", status=status, headers=wait) if call.number == 0 else Reply()
    )
    start = time.monotonic()
    verdict = await ask(server, provider, tmp_path)
    assert verdict.status is Status.GRADED
    assert len(server.calls) == 2
    if status == 429:
        assert time.monotonic() - start >= 1.2, "retry-after was not respected"


async def test_google_retry_info(server: JudgeServer, tmp_path: Path) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.1s"}]
    fault = json.dumps({"error": {"code": 429, "message": "quota", "details": details}})
    server.behaviour = lambda call: Reply(status=429, raw=fault) if call.number == 0 else Reply()
    start = time.monotonic()
    assert (await ask(server, "google", tmp_path)).status is Status.GRADED
    assert time.monotonic() - start >= 1.1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(f"down, your key is {KEY}", status=500), "server"),
        (Reply("slow down", status=429), "rate_limit"),
        (Reply("bad field", status=400), "bad_request"),
        (Reply(cut=True), "connection"),
        (Reply(raw="{ this is no JSON"), "malformed_response"),
        (Reply(model="successor-of-the-model"), "wrong_model"),
    ],
)
async def test_lasting_fault(
    server: JudgeServer,
    provider: str,
    reply: Reply,
    reason: str,
    tmp_path: Path,
) -> None:
    server.behaviour = lambda _: reply
    verdict = await ask(server, provider, tmp_path, CallSettings(retries=0))
    assert verdict.status is Status.FAILED
    assert verdict.reason == reason
    assert verdict.raw
    assert KEY not in repr(verdict)
    assert not verdict.attempts
    assert verdict.first_score is None, "a failure is never a score"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_timeout(server: JudgeServer, provider: str, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(delay=0.6)
    verdict = await ask(server, provider, tmp_path, CallSettings(retries=1, timeout=0.2))
    assert (verdict.status, verdict.reason) == (Status.FAILED, "timeout")
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("provider", "reply", "reason"),
    [
        ("anthropic", Reply("", stop="refusal"), Reason.REFUSED),
        ("openai", Reply("", refusal="I can't do that."), Reason.REFUSED),
        ("openai", Reply("", stop="content_filter"), Reason.FILTERED),
        ("google", Reply("", stop="SAFETY"), Reason.FILTERED),
        ("google", Reply(blocked="PROHIBITED_CONTENT"), Reason.FILTERED),
    ],
)
async def test_refusal(
    server: JudgeServer, provider: str, reply: Reply, reason: Reason, tmp_path: Path
) -> None:
    server.behaviour = lambda _: reply
    verdict = await ask(server, provider, tmp_path)
    assert (verdict.status, verdict.reason) == (Status.REFUSED, reason)
    assert verdict.input_tokens == 1000, "a refusal is paid for"


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_truncated_and_empty(server: JudgeServer, provider: str, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(ANSWER[:40], stop=TRUNCATED[provider])
    verdict = await ask(server, provider, tmp_path)
    assert (verdict.status, verdict.reason) == (Status.UNPARSEABLE, Reason.TRUNCATED)
    assert verdict.raw == ANSWER[:40]
    assert verdict.cost > 0, "a useless answer is paid for"
    server.behaviour = lambda _: Reply("")
    verdict = await ask(server, provider, tmp_path)
    assert (verdict.status, verdict.reason) == (Status.UNPARSEABLE, Reason.EMPTY)


async def test_openrouter_error_with_status_200(server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(raw='{"error": {"message": "host down", "code": 502}}')
    verdict = await ask(server, "openrouter", tmp_path)
    assert (verdict.status, verdict.reason) == (Status.FAILED, "malformed_response")
    assert "host down" in verdict.raw


async def test_dated_answer_to_alias_is_the_same_model(server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(model="qwen/qwen3-32b-04-28")
    assert (await ask(server, "openrouter", tmp_path)).status is Status.GRADED
    server.behaviour = lambda _: Reply(model="gemini-2.5-flash-lite")
    assert (await ask(server, "google", tmp_path)).reason == "wrong_model"


async def test_local_server_gets_no_provider_key(server: JudgeServer, tmp_path: Path) -> None:
    await ask(server, "local", tmp_path)
    assert KEY not in json.dumps(server.calls[0].headers)


async def test_concurrency_limit(server: JudgeServer, tmp_path: Path) -> None:
    server.behaviour = lambda _: Reply(delay=0.1)
    grader = judge.create(
        f"haiku@{server.url}", calls=CallSettings(concurrency=4), cache=tmp_path / "c.sqlite"
    )
    start = time.monotonic()
    requests = [JudgeRequest("p", f"response {i}", "l") for i in range(12)]
    await asyncio.gather(*(grader.grade(request) for request in requests))
    await grader.close()
    assert time.monotonic() - start >= 0.3, "more than 4 at once"


async def test_temperature(server: JudgeServer) -> None:
    client = judge.create_client(f"sonnet@{server.url}")
    completion = await client.complete(Request("write", "a text", temperature=0.8))
    await client.close()
    (call,) = server.calls
    assert call.body["temperature"] == 0.8
    # The API version that the SDK sends by default refuses the field.
    assert call.headers["anthropic-version"] == "2023-06-01"
    assert (completion.text, completion.stop) == (ANSWER, Stop.END)


async def test_fixed_start_is_cached(server: JudgeServer) -> None:
    client = judge.create_client(f"haiku@{server.url}")
    await client.complete(Request("system", "changing", fixed="always the same"))
    await client.close()
    blocks = server.calls[0].body["messages"][0]["content"]
    assert [block["text"] for block in blocks] == ["always the same", "changing"]
    assert "cache_control" in blocks[0]
    assert "cache_control" not in blocks[1]


@pytest.mark.parametrize("provider", ["anthropic", "openai", "google", "openrouter"])
def test_missing_key(provider: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = NAMES[provider][0]
    variable = judge.key_variable(name)
    monkeypatch.delenv(variable)
    env = tmp_path / ".env"
    monkeypatch.setenv("ESR_ENV_FILE", str(env))
    assert not judge.has_key(name)
    grader = judge.create(name, cache=tmp_path / "c.sqlite")
    with pytest.raises(UserError) as caught:
        asyncio.run(grader.grade(QUESTION))
    asyncio.run(grader.close())
    assert variable in str(caught.value)
    assert str(env) in str(caught.value)
    env.write_text(f"{variable}=from-the-file\n")
    assert judge.has_key(name)
    assert judge.resolve(name)


def test_key_stays_inside(tmp_path: Path) -> None:
    for provider in ("haiku", "gpt-5-mini", "gemini-2.5-flash"):
        grader = judge.create(provider, cache=tmp_path / "c.sqlite")
        assert KEY not in repr(grader)
        assert KEY not in repr(grader.info)
        asyncio.run(grader.close())


def test_names_resolve_to_dated_ids() -> None:
    assert judge.resolve("haiku") == "claude-haiku-4-5-20251001"
    assert judge.resolve("sonnet") == "claude-sonnet-4-5-20250929"
    assert judge.resolve("gpt-5-mini") == "gpt-5-mini-2025-08-07"
    assert judge.resolve("openai:my-model@http://127.0.0.1:1/v1") == "my-model"
    for bad in ("hiaku", "openai:", "local:x", "haiku@file:///etc", "lexical@http://x"):
        with pytest.raises(UserError, match="haiku"):
            judge.resolve(bad)
