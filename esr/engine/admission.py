"""Which requests may be in flight together: their latents must fit into the rows kept for them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class RowBudget:
    """Lets a request wait while the latents in flight leave no room for its own.

    A worker keeps a fixed number of SAE rows on the device, as the memory plan says; a latent is
    counted once, however many requests use it.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._users: Counter[int] = Counter()
        self._waiting: list[asyncio.Future[None]] = []

    @asynccontextmanager
    async def hold(self, latents: Sequence[int]) -> AsyncIterator[None]:
        """Hold the rows of ``latents``, at most all there are, while the request runs."""
        while not self._fits(latents):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        self._users.update(latents)
        try:
            yield
        finally:
            self._users.subtract(latents)
            self._users += Counter()  # Drops those without users.
            waiting, self._waiting = self._waiting, []
            for turn in waiting:
                if not turn.done():
                    turn.set_result(None)

    def _fits(self, latents: Sequence[int]) -> bool:
        if len(self._users) + len(latents) <= self._rows:
            return True
        return len(self._users.keys() | set(latents)) <= self._rows
