"""Batch endpoints: half price, resumed after a kill, never sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from esr import judge
from esr.errors import UserError
from esr.judge import JudgeRequest, Status, Verdict, anthropic, openai, prices
from esr.judge.batch import BatchJudge, grade_batch
from esr.judge.cache import CachedJudge
from tests.judge_server import JudgeServer, Reply

REQUESTS = [JudgeRequest("prompt", f"response {i}", "label") for i in range(5)]
NAMES = [("haiku", ""), ("gpt-5-mini", "/v1")]


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC", "OPENAI", "OPENROUTER", "GEMINI"):
        monkeypatch.setenv(f"{variable}_API_KEY", "sk-test-key-0123")
    for module in (anthropic, openai):
        monkeypatch.setattr(module, "RETRIES", 0)


@pytest.fixture
async def server() -> AsyncIterator[JudgeServer]:
    async with JudgeServer().running() as running:
        yield running


def create(server: JudgeServer, name: tuple[str, str], folder: Path) -> BatchJudge:
    plain = judge.create(f"{name[0]}@{server.url}{name[1]}", cache=folder / "unused.sqlite")
    made = judge.batched(plain, folder / "batches.jsonl")
    assert isinstance(made, CachedJudge)
    made.store.close()
    assert isinstance(made.judge, BatchJudge)
    made.judge._quiet, made.judge._poll = 0.05, 0.05
    return made.judge


async def grade(server: JudgeServer, name: tuple[str, str], folder: Path) -> list[Verdict]:
    grader = create(server, name, folder)
    try:
        return await grade_batch(grader, REQUESTS)
    finally:
        await grader.close()


@pytest.mark.parametrize("name", NAMES)
async def test_half_price(server: JudgeServer, name: tuple[str, str], tmp_path: Path) -> None:
    verdicts = await grade(server, name, tmp_path)
    assert [verdict.status for verdict in verdicts] == [Status.GRADED] * 5
    price = prices.price(judge.resolve(name[0]))
    assert price is not None
    full = (1000 * price.input + 100 * price.output) / 1e6
    assert verdicts[0].cost == pytest.approx(full / 2)
    assert len(server.batches) == 1
    assert not server.calls, "nothing went through the ordinary endpoint"


@pytest.mark.parametrize("name", NAMES)
async def test_killed_while_waiting(
    server: JudgeServer, name: tuple[str, str], tmp_path: Path
) -> None:
    server.batches_end = False
    grader = create(server, name, tmp_path)
    waiting = asyncio.create_task(grade_batch(grader, REQUESTS))
    while not grader.journal.count("batch"):
        await asyncio.sleep(0.01)
    waiting.cancel()
    await grader.close()
    server.batches_end = True
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    assert len(server.batches) == 1, "the batch under way was not taken up"


@pytest.mark.parametrize("name", NAMES)
async def test_receipt_lost(server: JudgeServer, name: tuple[str, str], tmp_path: Path) -> None:
    server.lose_next_batch_answer = True
    verdicts = await grade(server, name, tmp_path)
    assert {verdict.status for verdict in verdicts} == {Status.FAILED}
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    assert len(server.batches) == 1, "a batch that had arrived was sent again"


@pytest.mark.parametrize("name", NAMES)
async def test_never_arrived(server: JudgeServer, name: tuple[str, str], tmp_path: Path) -> None:
    server.lose_next_batch_answer = True
    await grade(server, name, tmp_path)
    server.batches.clear()
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    assert len(server.batches) == 1


@pytest.mark.parametrize("name", NAMES)
async def test_failures_are_asked_again(
    server: JudgeServer, name: tuple[str, str], tmp_path: Path
) -> None:
    server.behaviour = lambda call: (
        Reply("down", status=500) if "response 3" in call.user and call.number == 0 else Reply()
    )
    verdicts = await grade(server, name, tmp_path)
    assert [verdict.status for verdict in verdicts].count(Status.FAILED) == 1
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    sizes = [len(batch["items"]) for batch in server.batches.values()]
    assert sizes == [5, 1], "only the failure was sent again"


async def test_no_batch_endpoint(tmp_path: Path) -> None:
    for name in ("gemini-2.5-flash", "qwen3-32b", "lexical"):
        plain = judge.create(name, cache=tmp_path / "c.sqlite")
        with pytest.raises(UserError, match="no batch endpoint"):
            judge.batched(plain, tmp_path / "b.jsonl")
        await plain.close()
