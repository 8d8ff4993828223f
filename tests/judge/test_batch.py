"""Batch endpoints: half price, resumed after a kill, never sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esr import judge
from esr.errors import JudgeError, SpendLimitError, UserError
from esr.judge import CallSettings, JudgeRequest, Status, Verdict, prices
from esr.judge.batch import BatchClient, BatchSettings
from esr.judge.ledger import Ledger
from esr.judge.llm import LlmJudge
from esr.runs.journal import Journal
from tests.judge_replies import Reply
from tests.judge_server import JudgeServer

REQUESTS = [JudgeRequest("prompt", f"response {i}", "label") for i in range(5)]
CALLS = CallSettings(retries=0)
NAMES = [("haiku", ""), ("gpt-5-mini", "/v1")]


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("ANTHROPIC", "OPENAI", "OPENROUTER", "GEMINI"):
        monkeypatch.setenv(f"{variable}_API_KEY", "sk-test-key-0123")


@pytest.fixture
async def server() -> AsyncIterator[JudgeServer]:
    async with JudgeServer().running() as running:
        yield running


QUICK = BatchSettings(quiet=0.05, poll=0.05, settle=0.3)


def create(
    server: JudgeServer, name: tuple[str, str], folder: Path, limit: float = 0.0
) -> LlmJudge:
    """A judge by batches; its cache is away, so that a batch is all that it remembers."""
    ledger = Ledger(limit)
    ledger.open(Journal(folder / "journal.jsonl"))
    judge_name = f"{name[0]}@{server.url}{name[1]}"
    plain = judge.create(judge_name, cache=folder / "unused.sqlite", calls=CALLS, ledger=ledger)
    assert isinstance(plain, LlmJudge)
    assert plain.client.store is not None
    plain.client.store.close()
    plain.client.store = None
    client = BatchClient(plain.client, folder / "batches.jsonl", QUICK)
    return LlmJudge(client, plain.rubric, plain.output)


def batches_of(grader: LlmJudge) -> BatchClient:
    assert isinstance(grader.client, BatchClient)
    return grader.client


async def grade(
    server: JudgeServer, name: tuple[str, str], folder: Path, limit: float = 0.0
) -> list[Verdict]:
    grader = create(server, name, folder, limit)
    try:
        return await asyncio.gather(*(grader.grade(request) for request in REQUESTS))
    finally:
        await grader.close()


def paid(folder: Path) -> list[float]:
    return [entry["cost"] for _, entry in Journal(folder / "journal.jsonl").values("paid")]


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


async def cancelled(waiting: asyncio.Future[Any]) -> None:
    """Cancel, and look at the outcome, of which asyncio complains at any later time otherwise."""
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("name", NAMES)
async def test_killed_while_waiting(
    server: JudgeServer, name: tuple[str, str], tmp_path: Path
) -> None:
    server.batches_end = False
    grader = create(server, name, tmp_path)
    waiting = asyncio.gather(*(grader.grade(request) for request in REQUESTS))
    while not batches_of(grader).journal.count("batch"):
        await asyncio.sleep(0.01)
    await cancelled(waiting)
    await grader.close()
    assert paid(tmp_path) == []
    server.batches_end = True
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    assert len(server.batches) == 1, "the batch under way was not taken up"
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    assert (len(server.batches), len(paid(tmp_path))) == (1, 5), "fetched twice, paid once"


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


@pytest.mark.parametrize("name", NAMES)
async def test_receipt_lost_and_the_list_is_late(
    server: JudgeServer,
    name: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.lose_next_batch_answer = True
    await grade(server, name, tmp_path)
    server.hidden_lists = 3
    monkeypatch.setattr(f"{__name__}.QUICK", replace(QUICK, settle=60.0))
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    assert len(server.batches) == 1, "a batch that had arrived was sent again"
    assert capsys.readouterr().err.count("is not in the provider's list") == 1


@pytest.mark.parametrize("name", NAMES)
async def test_receipt_lost_and_many_newer_batches(
    server: JudgeServer, name: tuple[str, str], tmp_path: Path
) -> None:
    server.lose_next_batch_answer = True
    await grade(server, name, tmp_path)
    ((mine, batch),) = server.batches.items()
    server.add_others(120, next(iter(batch["items"].values())))
    # As many requests as ours, but not ours.
    server.add_others(2, next(iter(batch["items"].values())), size=len(REQUESTS))
    # The provider's clock is five minutes fast, then an hour slow.
    batch["made"] -= 3600
    verdicts = await grade(server, name, tmp_path)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)
    assert len(server.batches) == 123
    assert mine in server.batches


async def test_a_list_is_read_no_further_than_it_may_hold_ours(
    server: JudgeServer, tmp_path: Path
) -> None:
    server.add_others(1, {})
    server.batches["batch-0"]["made"] -= 10 * 86_400
    server.add_others(1, {})
    client = batches_of(create(server, NAMES[0], tmp_path))
    since = server.batches["batch-1"]["made"] - 86_400
    assert [name async for name in client.api.find("", since, 1)] == ["batch-1"]
    await client.close()


@pytest.mark.parametrize("name", NAMES)
async def test_a_batch_over_the_limit_is_not_sent(
    server: JudgeServer, name: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(SpendLimitError, match=r"comes next would cost about \$0\.0"):
        await grade(server, name, tmp_path, limit=0.0005)
    assert not server.batches
    verdicts = await grade(server, name, tmp_path, limit=1.0)
    assert all(verdict.status is Status.GRADED for verdict in verdicts)


async def test_what_is_on_its_way_counts_against_the_limit(
    server: JudgeServer, tmp_path: Path
) -> None:
    server.batches_end = False
    grader = create(server, NAMES[0], tmp_path)
    waiting = asyncio.gather(*(grader.grade(request) for request in REQUESTS))
    while not batches_of(grader).journal.count("batch"):
        await asyncio.sleep(0.01)
    await cancelled(waiting)
    await grader.close()
    ((_, sent),) = batches_of(grader).journal.values("requests")
    again = create(server, NAMES[0], tmp_path, limit=1.5 * sent["estimate"])
    others = [replace(request, response=request.response + "!") for request in REQUESTS]
    with pytest.raises(SpendLimitError, match="on its way"):
        await asyncio.gather(*(again.grade(request) for request in others))
    await again.close()
    assert len(server.batches) == 1


async def test_no_batch_endpoint(tmp_path: Path) -> None:
    for name in ("gemini-2.5-flash", "qwen3-32b", "lexical"):
        plain = judge.create(name, cache=tmp_path / "c.sqlite")
        with pytest.raises(UserError, match="no batch endpoint"):
            judge.batched(plain, tmp_path / "b.jsonl")
        await plain.close()


async def test_a_key_stays_inside(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "no-usual-shape-of-a-key")
    server.behaviour = lambda _: Reply("bad key no-usual-shape-of-a-key", status=401)
    grader = create(server, NAMES[0], tmp_path)
    with pytest.raises(JudgeError, match="refuses the key") as caught:
        await grader.client.ready()
    await grader.close()
    assert "no-usual-shape" not in str(caught.value)
