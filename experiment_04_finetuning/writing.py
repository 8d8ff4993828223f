"""Writing the examples: one loop over items, journaled, whoever the writer is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from esr.runs import progress
from esr.runs.journal import Journal
from experiment_04_finetuning.examples import Example, Item

TRIES = 3
"""How often an item is asked for before it is given up; repeating the command asks again."""


@dataclass(frozen=True)
class Written:
    """What came of one request to a writer.

    Attributes:
        example: None where the answer was no example.
        problem: why there is no example, and what was answered.
    """

    example: Example | None
    problem: str = ""


class Writer(Protocol):
    """Writes examples."""

    @property
    def id(self) -> str:
        """Who writes, and by which instructions: part of the identity of the data."""
        ...

    async def write(self, item: Item, attempt: int) -> Written:
        """One example. Never raises for the provider's fault."""
        ...

    async def close(self) -> None:
        """Release what is held."""
        ...


async def write_examples(
    items: Sequence[Item],
    writer: Writer,
    journal: Journal,
    *,
    quiet: bool = False,
) -> tuple[list[Example], dict[str, str]]:
    """Every item, written once: what the journal holds is never asked for again.

    Args:
        items: what to write.
        writer: who writes.
        journal: of the run.
        quiet: no progress bar.

    Returns:
        The examples in the order of items, and the problem of every item that has none.

    Raises:
        SpendLimitError: the limit is reached.
    """
    with progress.bar(len(items), "examples", "example", quiet=quiet) as bar:

        async def one(item: Item) -> str:
            problem = ""
            if journal.get("example", item.key) is None:
                problem = await _ask(item, writer, journal)
            bar.update()
            return problem

        tasks = [asyncio.create_task(one(item)) for item in items]
        try:
            problems = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    written = [journal.get("example", item.key) for item in items]
    failed = {item.key: problem for item, problem in zip(items, problems, strict=True) if problem}
    return [Example.from_json(data) for data in written if data is not None], failed


async def _ask(item: Item, writer: Writer, journal: Journal) -> str:
    """Ask until there is an example; the last problem where there is none."""
    problem = ""
    for attempt in range(TRIES):
        written = await writer.write(item, attempt)
        if written.example is not None:
            journal.put("example", item.key, written.example.to_json())
            return ""
        problem = written.problem
    journal.put("failure", item.key, problem)
    return problem
