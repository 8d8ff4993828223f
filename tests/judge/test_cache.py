"""The cache of completions: nothing lost, nothing paid twice, kill -9 included."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
import textwrap
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esr.judge.base import CallSettings
from esr.judge.cache import Store
from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop
from esr.judge.faults import Fault
from esr.judge.prices import Usage
from esr.runs.journal import Journal
from tests.judge_replies import ANSWER, Call, Reply
from tests.judge_server import JudgeServer

REQUEST = Request("system", "question")
GOOD = Completion("answer", Stop.END, Usage(100, 10, charged=0.5))


class Scripted(Client):
    """A language model that gives prepared completions and counts calls."""

    provider = "scripted"

    def __init__(self, *answers: Completion, delay: float = 0.0, **options: Any) -> None:
        super().__init__("model", key="", base_url="", **options)
        self.answers = list(answers)
        self.delay = delay
        self.asked = 0

    async def _send(self, request: Request) -> Completion:  # noqa: ARG002
        self.asked += 1
        await asyncio.sleep(self.delay)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def _close(self) -> None:
        return None


async def test_completions_are_kept_and_cost_nothing_again(tmp_path: Path) -> None:
    path = tmp_path / "c.sqlite"
    first = Scripted(GOOD, store=Store(path))
    assert (await first.complete(REQUEST)).cost == 0.5
    await first.close()
    second = Scripted(GOOD, store=Store(path))
    again = await second.complete(REQUEST)
    assert (again.text, again.cost, again.usage) == ("answer", 0.0, Usage())
    assert (second.asked, second.ledger.spent) == (0, 0.0)
    await second.close()


@pytest.mark.parametrize("stop", [Stop.REFUSED, Stop.FILTERED, Stop.FAILED])
async def test_what_is_no_answer_is_not_kept(stop: Stop, tmp_path: Path) -> None:
    bad = Completion("no", stop, fault=Fault.SERVER if stop is Stop.FAILED else None)
    client = Scripted(bad, GOOD, store=Store(tmp_path / "c.sqlite"))
    stops = [(await client.complete(REQUEST)).stop for _ in range(3)]
    assert (stops, client.asked) == ([stop, Stop.END, Stop.END], 2)
    await client.close()


async def test_a_kept_answer_that_cannot_be_read_is_asked_for_again(tmp_path: Path) -> None:
    client = Scripted(replace(GOOD, text="mumble"), GOOD, store=Store(tmp_path / "c.sqlite"))

    async def ask() -> str:
        return (await client.complete(REQUEST, usable=lambda c: c.text == "answer")).text

    assert [await ask() for _ in range(3)] == ["mumble", "answer", "answer"]
    assert (client.asked, client.ledger.spent) == (2, 1.0)
    # A mended reader needs no second answer.
    assert (await client.complete(REQUEST, usable=lambda _: True)).cost == 0
    await client.close()


async def test_same_question_at_once_is_asked_once(tmp_path: Path) -> None:
    client = Scripted(GOOD, delay=0.01, store=Store(tmp_path / "c.sqlite"))
    answers = await asyncio.gather(*(client.complete(REQUEST) for _ in range(20)))
    assert client.asked == 1
    assert sum(answer.cost for answer in answers) == 0.5, "paid once, counted once"
    assert client.ledger.spent == 0.5
    await client.close()


async def test_cancelled_run_keeps_and_pays_what_is_on_its_way(tmp_path: Path) -> None:
    calls, store = CallSettings(concurrency=3), Store(tmp_path / "c.sqlite")
    client = Scripted(GOOD, delay=0.2, calls=calls, store=store)
    journal = Journal(tmp_path / "journal.jsonl")
    client.ledger.open(journal)
    tasks = [asyncio.create_task(client.complete(Request("s", f"r{i}"))) for i in range(10)]
    await asyncio.sleep(0.1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await client.close()
    assert client.asked == 3, "calls that waited for their turn were sent"
    assert stored(tmp_path / "c.sqlite") == 3, "answers that were paid for were thrown away"
    assert [entry["cost"] for _, entry in journal.values("paid")] == [0.5] * 3
    journal.close()


def test_key_covers_all_that_can_change_an_answer() -> None:
    client = Scripted(GOOD)
    other = Scripted(GOOD)
    other.model = "other"
    elsewhere = Scripted(GOOD)
    elsewhere.base_url = "http://elsewhere"
    changed = [
        replace(REQUEST, system="x"),
        replace(REQUEST, user="x"),
        replace(REQUEST, fixed="x"),
        replace(REQUEST, sample="x"),
        replace(REQUEST, temperature=0.5),
        replace(REQUEST, max_tokens=7),
        replace(REQUEST, schema={}),
        Request("systemq", "uestion"),
    ]
    keys = {client.key_of(request) for request in [REQUEST, *changed]}
    keys |= {other.key_of(REQUEST), elsewhere.key_of(REQUEST)}
    assert len(keys) == 1 + len(changed) + 2
    assert client.key_of(replace(REQUEST, purpose="x")) == client.key_of(REQUEST)


async def test_a_cache_that_cannot_be_written_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.sqlite"
    Store(path).close()
    client = Scripted(GOOD, store=Store(path))
    assert client.store is not None
    client.store._db.execute("PRAGMA query_only = ON").close()
    for number in range(3):
        assert (await client.complete(Request("s", str(number)))).text == "answer"
    await client.close()
    assert client.ledger.spent == 1.5
    assert capsys.readouterr().err.count("answers are not cached") == 1


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "schema", "directory"])
async def test_a_damaged_cache_is_moved_aside_and_named(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.sqlite"
    first = Scripted(GOOD, store=Store(path))
    for number in range(200):
        await first.complete(Request("s", str(number)))
    await first.close()
    content = path.read_bytes()
    assert len(content) > 20_000
    if damage == "schema":
        with closing(sqlite3.connect(path)) as db:
            db.execute("DROP TABLE answers")
            db.execute("CREATE TABLE answers (id INTEGER)")
    elif damage == "directory":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"text": b"x" * 5000, "empty": b"", "cut": content[:9000]}[damage])
    again = Scripted(GOOD, store=Store(path))
    assert [(await again.complete(Request("s", str(n)))).text for n in range(3)] == ["answer"] * 3
    await again.close()
    err = capsys.readouterr().err
    if damage == "empty":
        assert err == "", "an empty file is a new database"
    else:
        assert str(path) in err
        assert err.count("note:") == 1
    if damage in ("text", "schema"):
        assert (tmp_path / "c.sqlite.damaged-1").exists()
        assert stored(path) == 3


async def test_answers_whose_index_is_lost_are_not_paid_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.sqlite"
    first = Scripted(GOOD, store=Store(path))
    for number in range(200):
        await first.complete(Request("s", str(number)))
    await first.close()
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[16:18], "big")
    emptied = 0
    for page in range(size, len(content), size):
        if content[page] == 0x0A:  # a leaf of an index: https://www.sqlite.org/fileformat2.html
            content[page + 3 : page + 5] = bytes(2)
            emptied += 1
    assert emptied > 1
    path.write_bytes(content)
    again = Scripted(GOOD, store=Store(path))
    assert [(await again.complete(Request("s", str(n)))).cost for n in range(200)] == [0.0] * 200
    await again.close()
    assert "200 answers could be read and stay in use" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["300", '{"text": 1}', "{", "null", "[]", '{"stop": "end"}'])
async def test_an_entry_that_is_no_completion_counts_as_absent(value: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "c.sqlite")
    client = Scripted(GOOD, store=store)
    store._db.execute("INSERT INTO answers VALUES (?, ?)", (client.key_of(REQUEST), value)).close()
    assert (await client.complete(REQUEST)).cost == 0.5
    assert (await client.complete(REQUEST)).cost == 0
    await client.close()


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
    from esr.judge import CallSettings, JudgeRequest

    async def main(url: str, cache: str, n: int, concurrency: int) -> None:
        calls = CallSettings(concurrency, patience=n)
        grader = judge.create(f"haiku@{url}", calls=calls, cache=Path(cache))
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
        in_cache = stored(cache, "%score%")
        seen = len(server.calls)
        assert 50 < in_cache < N, "the kill came in the middle"
        for _ in range(5):
            client = await run_client(server, cache)
            out, _ = await client.communicate()
            assert client.returncode == 0
            if int(out) == 0:
                break
        assert int(out) == 0, "failed verdicts did not come on repeating"
        counts = paid(server)
        asked_again = {call.user for call in server.calls[seen:]}
    assert stored(cache, "%score%") == N, "a verdict was lost"
    assert len(counts) == N
    twice = [user for user, n in counts.items() if n > 1]
    # An answer on its way at the moment of the kill was given but never arrived.
    assert len(twice) <= CONCURRENCY
    first_run = Counter(call.user for call in server.calls[:seen])
    assert len(first_run) - len(asked_again & set(first_run)) == in_cache, (
        "a kept verdict was re-asked"
    )


def stored(cache: Path, like: str = "%") -> int:
    """Entries of a store, read past any process that has it open."""
    query = f"SELECT COUNT(*) FROM answers WHERE value LIKE '{like}'"
    connection = sqlite3.connect(cache)
    try:
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()
