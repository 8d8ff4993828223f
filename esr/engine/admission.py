"""Which requests may be in flight together: their rows must fit into those kept on the device."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager


class RowBudget:
    """Lets a request wait while the rows in flight leave no room for its own.

    A worker keeps a fixed number of rows on the device, as the memory plan says; a latent or
    direction is counted once, however many requests use it.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._users: Counter[Hashable] = Counter()
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def hold(self, wanted: Sequence[Hashable]) -> AsyncIterator[None]:
        """Hold the rows ``wanted``, at most all there are, while the request runs."""
        while not self._fits(wanted):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._users.update(wanted)
        try:
            yield
        finally:
            self._users.subtract(wanted)
            self._users += Counter()  # Drops those without users.
            waiting, self._waiting = self._waiting, []
            for turn in waiting:
                if not turn.done():
                    turn.set_result(None)

    def _fits(self, wanted: Sequence[Hashable]) -> bool:
        if len(self._users) + len(wanted) <= self._rows:
            return True
        return len(self._users.keys() | set(wanted)) <= self._rows
