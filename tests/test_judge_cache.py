"""The verdict cache: nothing lost, nothing paid twice, kill -9 included."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from esr.judge.base import Attempt, JudgeInfo, JudgeRequest, Status, Verdict
from esr.judge.cache import CachedJudge, Store, verdict_key
from tests.judge_server import ANSWER, Call, JudgeServer, Reply

REQUEST = JudgeRequest("prompt", "response", "label")


class Scripted:
    """A judge that gives prepared verdicts and counts calls."""

    def __init__(self, *verdicts: Verdict, info: JudgeInfo | None = None) -> None:
        self.verdicts = list(verdicts)
        self.calls = 0
        self.info = info or JudgeInfo("scripted", "hash")

    async def grade(self, request: JudgeRequest) -> Verdict:  # noqa: ARG002
        self.calls += 1
        await asyncio.sleep(0)
        return self.verdicts.pop(0) if len(self.verdicts) > 1 else self.verdicts[0]

    async def close(self) -> None:
        pass


GOOD = Verdict(Status.GRADED, (Attempt("a", 40.0),), "raw", 100, 10, 0.5)


async def test_answers_are_kept_and_cost_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    first = CachedJudge(Scripted(GOOD), path)
    assert await first.grade(REQUEST) == GOOD
    await first.close()
    inner = Scripted(GOOD)
    second = CachedJudge(inner, path)
    again = await second.grade(REQUEST)
    assert (again.attempts, again.raw, again.cost, again.input_tokens) == (
        GOOD.attempts,
        "raw",
        0.0,
        0,
    )
    assert (inner.calls, second.hits) == (0, 1)
    await second.close()


@pytest.mark.parametrize("status", [Status.UNPARSEABLE, Status.REFUSED, Status.FAILED])
async def test_failures_are_not_kept(status: Status, tmp_path: Path) -> None:
    inner = Scripted(Verdict(status), Verdict(Status.NO_ATTEMPTS))
    judge = CachedJudge(inner, tmp_path / "c.sqlite")
    assert (await judge.grade(REQUEST)).status is status
    assert (await judge.grade(REQUEST)).status is Status.NO_ATTEMPTS
    assert (await judge.grade(REQUEST)).status is Status.NO_ATTEMPTS
    assert inner.calls == 2
    await judge.close()


async def test_same_question_at_once_is_asked_once(tmp_path: Path) -> None:
    inner = Scripted(GOOD)
    judge = CachedJudge(inner, tmp_path / "c.sqlite")
    verdicts = await asyncio.gather(*(judge.grade(REQUEST) for _ in range(20)))
    assert inner.calls == 1
    assert sum(verdict.cost for verdict in verdicts) == GOOD.cost, "paid once, counted once"
    await judge.close()


class Slow(Scripted):
    """A judge that takes its time."""

    async def grade(self, request: JudgeRequest) -> Verdict:
        await asyncio.sleep(0.2)
        return await super().grade(request)


async def test_cancelled_run_keeps_what_is_on_its_way(tmp_path: Path) -> None:
    inner = Slow(GOOD)
    judge = CachedJudge(inner, tmp_path / "c.sqlite", concurrency=3)
    requests = [JudgeRequest("p", f"r{i}", "l") for i in range(10)]
    tasks = [asyncio.create_task(judge.grade(request)) for request in requests]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await judge.close()
    assert inner.calls == 3, "calls that waited for their turn were sent"
    assert stored(tmp_path / "c.sqlite") == 3, "answers that were paid for were thrown away"


def test_key_covers_all_that_can_change_a_verdict() -> None:
    info = JudgeInfo("judge", "hash", {"temperature": None})
    keys = {
        verdict_key(info, REQUEST),
        verdict_key(JudgeInfo("other", "hash", info.settings), REQUEST),
        verdict_key(JudgeInfo("judge", "other", info.settings), REQUEST),
        verdict_key(JudgeInfo("judge", "hash", {"temperature": 1}), REQUEST),
        verdict_key(info, JudgeRequest("other", "response", "label")),
        verdict_key(info, JudgeRequest("prompt", "other", "label")),
        verdict_key(info, JudgeRequest("prompt", "response", "other")),
        verdict_key(info, JudgeRequest("promptr", "esponse", "label")),
    }
    assert len(keys) == 8


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "c.sqlite"), Store(tmp_path / "c.sqlite")
    for i in range(50):
        one.put(f"one-{i}", i)
        two.put(f"two-{i}", i)
    assert len(one) == len(two) == 100
    assert one.get("two-7") == 7
    assert one.get("none") is None
    one.close()
    two.close()


N, FAULTY, CONCURRENCY = 1000, 0.3, 16
CLIENT = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from esr import judge
    from esr.judge import JudgeRequest

    async def main(url: str, cache: str, n: int, concurrency: int) -> None:
        grader = judge.create(f"haiku@{url}", concurrency=concurrency, cache=Path(cache))
        requests = [JudgeRequest("prompt", f"response {i}.", "label") for i in range(n)]
        verdicts = await asyncio.gather(*(grader.grade(request) for request in requests))
        await grader.close()
        print(sum(not verdict.answered for verdict in verdicts))

    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
    """
)


def faulty(call: Call) -> Reply:
    """Three in ten first and second calls fail, each in one of six ways, by the question alone."""
    dice = random.Random(f"{call.user}/{call.number}")
    if call.number >= 2 or dice.random() >= FAULTY:
        return Reply()
    return dice.choice(
        [
            Reply("slow down", status=429, headers={"retry-after": "0.05"}),
            Reply("down", status=503, headers={"retry-after": "0.05"}),
            Reply(cut=True),
            Reply(ANSWER[:30]),
            Reply("I can not grade this."),
            Reply("", stop="refusal"),
        ]
    )


def paid(server: JudgeServer) -> Counter[str]:
    """How often each question got a good answer."""
    good = Counter[str]()
    for call in server.calls:
        if server.behaviour(call) == Reply():
            good[call.user] += 1
    return good


async def run_client(server: JudgeServer, cache: Path) -> asyncio.subprocess.Process:
    arguments = (server.url, str(cache), str(N), str(CONCURRENCY))
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, *arguments, stdout=asyncio.subprocess.PIPE
    )


async def test_thousand_verdicts_with_faults_and_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-key")
    cache = tmp_path / "c.sqlite"
    async with JudgeServer(faulty).running() as server:
        client = await run_client(server, cache)
        while len(server.calls) < 400:
            await asyncio.sleep(0.01)
        client.send_signal(signal.SIGKILL)
        await client.communicate()
        kept = stored(cache)
        seen = len(server.calls)
        assert 50 < kept < N, "the kill came in the middle"
        for _ in range(5):
            client = await run_client(server, cache)
            out, _ = await client.communicate()
            assert client.returncode == 0
            if int(out) == 0:
                break
        assert int(out) == 0, "failed verdicts did not come on repeating"
        counts = paid(server)
        asked_again = {call.user for call in server.calls[seen:]}
    assert stored(cache) == N, "a verdict was lost"
    assert len(counts) == N
    twice = [user for user, n in counts.items() if n > 1]
    # An answer on its way at the moment of the kill was given but never arrived.
    assert len(twice) <= CONCURRENCY
    first_run = Counter(call.user for call in server.calls[:seen])
    assert len(first_run) - len(asked_again & set(first_run)) == kept, "a kept verdict was re-asked"


def stored(cache: Path) -> int:
    """Entries of a store, read past any process that has it open."""
    connection = sqlite3.connect(cache)
    try:
        return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
    finally:
        connection.close()
