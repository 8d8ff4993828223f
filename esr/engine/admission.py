"""Which requests may be in flight together: their rows must fit into those kept on the device."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager


class RowBudget:
    """Lets a request wait while the rows in flight leave no room for its own.

    A worker has a fixed number of rows on the device, as the memory plan says; a latent or
    direction is counted once, however many requests use it. Inside CUDA graphs it has a fixed
    number of lines too, one per request and phase of its text.
    """

    def __init__(self, rows: int, lines: int | None = None) -> None:
        self._rows, self._lines = rows, lines
        self._users: Counter[Hashable] = Counter()
        self._lines_used = 0
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def hold(self, wanted: Sequence[Hashable], lines: int = 0) -> AsyncIterator[None]:
        """Hold the rows ``wanted`` and some lines, at most all there are, while the request
        runs."""
        while not self._fits(wanted, lines):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._users.update(wanted)
        self._lines_used += lines
        try:
            yield
        finally:
            self._lines_used -= lines
            for row in wanted:
                self._users[row] -= 1
                if not self._users[row]:
                    del self._users[row]
            waiting, self._waiting = self._waiting, []
            for turn in waiting:
                if not turn.done():
                    turn.set_result(None)

    def _fits(self, wanted: Sequence[Hashable], lines: int) -> bool:
        if self._lines is not None and self._lines_used + lines > self._lines:
            return False
        if len(self._users) + len(wanted) <= self._rows:
            return True
        return len(self._users.keys() | set(wanted)) <= self._rows
