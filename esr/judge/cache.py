"""Answers already paid for: a SQLite file that survives kill -9, and judges that look there first.

Only answers are kept; a failure is asked for again.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from esr.judge.base import Judge, JudgeInfo, JudgeRequest, Verdict
from esr.runs import paths
from esr.runs.plain import json_digest


def default_path() -> Path:
    """The cache shared by all runs."""
    return paths.cache() / "judge.sqlite"


def key_of(*parts: Any) -> str:
    """SHA-256 of plain data; the same for the same content."""
    return json_digest(parts)


def verdict_key(info: JudgeInfo, request: JudgeRequest) -> str:
    """Key of a verdict: all that can change it."""
    return key_of(
        "verdict",
        info.id,
        info.rubric_hash,
        info.settings,
        request.prompt,
        request.response,
        request.latent_label,
    )


class Store:
    """Plain data by key in one SQLite file, shared safely between processes.

    Every entry is committed before :meth:`put` returns; the write-ahead log makes a kill between
    two entries lose neither.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60.0, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT)")

    def get(self, key: str) -> Any | None:
        """The entry, or None."""
        with closing(self._db.execute("SELECT value FROM answers WHERE key = ?", (key,))) as rows:
            row = rows.fetchone()
        return json.loads(row[0]) if row else None

    def put(self, key: str, value: Any) -> None:
        """Keep an entry; replaces an earlier one of the same key."""
        text = json.dumps(value)
        self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text)).close()

    def __len__(self) -> int:
        with closing(self._db.execute("SELECT COUNT(*) FROM answers")) as rows:
            return int(rows.fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


GRACE = 30.0
"""Seconds that closing waits for answers on their way, which are paid for and worth keeping."""


class CachedJudge:
    """A judge that looks into a store first.

    A verdict from the store has no tokens and no cost: nothing was spent on it now. Two calls
    for the same verdict at the same time ask once. A call that has been sent is seen through and
    its answer kept even if whoever asked is cancelled; one that waits for its turn is not sent.

    Args:
        judge: who is asked otherwise.
        path: of the store; the shared one when left out.
        concurrency: calls sent at once; 0 for no limit, and for answers that may take a day and
            are not waited for on closing.
    """

    def __init__(self, judge: Judge, path: Path | None = None, concurrency: int = 16) -> None:
        self.judge = judge
        self.store = Store(path or default_path())
        self.hits = 0
        self._slots = asyncio.Semaphore(concurrency) if concurrency else nullcontext()
        self._grace = GRACE if concurrency else 0.0
        self._pending: dict[str, asyncio.Task[Verdict]] = {}

    @property
    def info(self) -> JudgeInfo:
        """The judge's own identity."""
        return self.judge.info

    async def grade(self, request: JudgeRequest) -> Verdict:
        """The stored verdict, or a new one."""
        key = verdict_key(self.info, request)
        if (stored := self._stored(key)) is not None:
            return stored
        async with self._slots:
            # Whoever had the slot before may have asked for the same.
            if (stored := self._stored(key)) is not None:
                return stored
            if (task := self._pending.get(key)) is not None:
                return _free(await asyncio.shield(task))
            task = self._pending[key] = asyncio.create_task(self._ask(key, request))
            task.add_done_callback(lambda _: self._pending.pop(key, None))
            return await asyncio.shield(task)

    async def _ask(self, key: str, request: JudgeRequest) -> Verdict:
        verdict = await self.judge.grade(request)
        if verdict.answered:
            self.store.put(key, verdict.to_json())
        return verdict

    def _stored(self, key: str) -> Verdict | None:
        stored = self.store.get(key)
        if stored is None:
            return None
        self.hits += 1
        return _free(Verdict.from_json(stored))

    async def close(self) -> None:
        """Wait a little for what is on its way, then close the judge and the store."""
        pending = list(self._pending.values())
        if pending:
            await asyncio.wait(pending, timeout=self._grace)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        await self.judge.close()
        self.store.close()

    def __repr__(self) -> str:
        return f"CachedJudge({self.judge!r})"


def _free(verdict: Verdict) -> Verdict:
    return replace(verdict, input_tokens=0, output_tokens=0, cost=0.0)
