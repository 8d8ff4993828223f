"""Whose intervention reached the tokens of a request, where requests are paired by list position.

Counted only under the faulty pairing of the authors' fork (docs/pairing-fault.md): under the
correct one there is nothing to count.
"""

from __future__ import annotations

from collections.abc import Mapping

from esr.steering.task import Task

OWN, OTHER, NONE = KINDS = ("own", "other", "none")


class PairingCounts:
    """Tokens of each request by what steered them, kept until they are taken."""

    def __init__(self) -> None:
        self._tasks: dict[str, tuple[str, str]] = {}
        self._counts: dict[str, dict[str, int]] = {}

    def admit(self, request_id: str, task: Task) -> None:
        """A request with interventions, before its first step."""
        self._tasks[request_id] = task.key, task.effects.content
        self._counts.setdefault(task.key, dict.fromkeys(KINDS, 0))

    def forget(self, request_id: str) -> None:
        """A request has finished; its counts stay."""
        self._tasks.pop(request_id, None)

    def add(self, request_id: str, partner: str, tokens: int) -> None:
        """Tokens of a request that were steered as ``partner`` should be."""
        own = self._tasks.get(request_id)
        if own is None:
            return
        given = self._tasks.get(partner)
        kind = NONE if given is None else OWN if given[1] == own[1] else OTHER
        self._counts[own[0]][kind] += tokens

    def take(self, key: str) -> Mapping[str, int] | None:
        """The counts of a finished request, once; None where none were kept."""
        return self._counts.pop(key, None)
