"""Money: every answer is counted once and for ever, and the limit binds whatever happens."""

from __future__ import annotations

import asyncio
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from esr.errors import SpendLimitError
from esr.judge.ledger import Ledger
from esr.judge.prices import Usage
from esr.runs.journal import Journal
from tests.judge_replies import Call, Reply
from tests.judge_server import JudgeServer

COST = (1000 * 1.0 + 100 * 5.0) / 1e6
"""Of the server's answers at Haiku's price."""


def test_the_limit_counts_what_earlier_starts_have_paid(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for start in range(1, 4):
        ledger = Ledger(1.0)
        ledger.open(journal)
        ledger.check()
        ledger.pay("verdict", "m", Usage(1, 1), 0.25)
        assert ledger.spent == ledger.spent_in_run == 0.25 * start
    ledger.pay("verdict", "m", Usage(1, 1), 0.25)
    with pytest.raises(SpendLimitError, match=r"\$1\.0000 of the \$1 of --max-spend"):
        ledger.check()
    Ledger(0.0).check()
    journal.close()


def test_one_command_has_one_limit_over_all_its_runs(tmp_path: Path) -> None:
    ledger = Ledger(1.0)
    journals = [Journal(tmp_path / f"{n}.jsonl") for n in range(3)]
    for journal in journals[:2]:
        ledger.open(journal)
        ledger.pay("verdict", "m", Usage(1, 1), 0.5)
        assert ledger.spent_in_run == 0.5
    ledger.open(journals[2])
    assert (ledger.spent, ledger.spent_in_run) == (1.0, 0.0)
    with pytest.raises(SpendLimitError):
        ledger.check()
    assert [journal.count("paid") for journal in journals] == [1, 1, 0]
    for journal in journals:
        journal.close()


def test_an_answer_that_is_fetched_twice_is_paid_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for _ in range(2):
        ledger = Ledger()
        ledger.open(journal)
        ledger.pay("verdict", "m", Usage(1, 1), 0.5, "batch-1/key")
        ledger.pay("verdict", "m", Usage(1, 1), 0.5, "batch-1/key")
        assert ledger.spent == 0.5
    journal.close()


def test_what_is_reserved_counts_until_it_is_released() -> None:
    ledger = Ledger(1.0)
    ledger.reserve("batch", 0.9)
    ledger.check(0.1)
    with pytest.raises(SpendLimitError, match=r"on its way.*would cost about \$0\.2"):
        ledger.check(0.2)
    ledger.release("batch")
    ledger.check(0.2)


ASKER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from esr import judge
    from esr.errors import SpendLimitError
    from esr.judge import CallSettings, JudgeRequest
    from esr.judge.ledger import Ledger
    from esr.runs.journal import Journal

    async def main(url: str, folder: Path, limit: float) -> None:
        ledger = Ledger(limit)
        ledger.open(Journal(folder / "journal.jsonl"))
        calls = CallSettings(concurrency=4, retries=0, patience=10**6)
        cache = folder / "cache.sqlite"
        grader = judge.create(f"haiku@{url}", calls=calls, cache=cache, ledger=ledger)
        requests = [JudgeRequest("prompt", f"response {i}.", "label") for i in range(400)]
        try:
            await asyncio.gather(*(grader.grade(request) for request in requests))
        except SpendLimitError:
            print("limit")
        await grader.close()
        print(ledger.spent)

    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])))
    """
)


async def test_the_limit_binds_over_repetitions_and_kills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three answers cannot be read, and so are asked for again by each repetition."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-key-0123")
    limit, kills, concurrency = 100 * COST, 3, 4

    def behave(call: Call) -> Reply:
        return Reply(delay=0.01) if len(call.user) % 3 == 0 else Reply("mumble", delay=0.01)

    async with JudgeServer(behave).running() as server:

        async def start() -> asyncio.subprocess.Process:
            arguments = (server.url, str(tmp_path), str(limit))
            return await asyncio.create_subprocess_exec(
                sys.executable, "-c", ASKER, *arguments, stdout=asyncio.subprocess.PIPE
            )

        for kill in range(1, kills + 1):
            process = await start()
            while len(server.calls) < 20 * kill:
                await asyncio.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            await process.communicate()
        for _ in range(3):
            out, _ = await (await start()).communicate()
            assert out.decode().startswith("limit")
        billed = len(server.calls) * COST
    counted = float(out.decode().split()[-1])
    assert counted >= limit
    # What was on its way at a kill never arrived; nothing else is uncounted.
    assert billed - counted <= kills * concurrency * COST
    assert billed <= limit + (kills + 1) * concurrency * COST
