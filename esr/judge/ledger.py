"""What judging costs: counted when an answer arrives, limited before a question is sent."""

from __future__ import annotations

import uuid

from esr.errors import SpendLimitError
from esr.judge.prices import Usage
from esr.runs.journal import Journal


class Ledger:
    """The money of one command, over all judges and all runs it opens.

    Every answer is an entry of its own in the journal of the open run, of kind ``paid``, which no
    later entry replaces: useless answers, ratings and annotations count like verdicts, and a
    repeated command goes on from their sum.

    Args:
        limit: US dollars (``--max-spend``); 0 for no limit.

    Attributes:
        spent: US dollars, what the opened runs had cost before included.
        spent_in_run: US dollars of the run that is open.
    """

    def __init__(self, limit: float = 0.0) -> None:
        self.limit = limit
        self.spent = 0.0
        self.spent_in_run = 0.0
        self._journal: Journal | None = None
        self._reserved: dict[str, float] = {}

    def open(self, journal: Journal) -> None:
        """Count what a run has cost, and write what comes into its journal."""
        self._journal = journal
        self.spent_in_run = sum(entry["cost"] for _, entry in journal.values("paid"))
        self.spent += self.spent_in_run

    def check(self, estimate: float = 0.0) -> None:
        """Before a question is sent.

        Args:
            estimate: US dollars of what is to be sent, where that is much.

        Raises:
            SpendLimitError: the limit is reached, or would be with the estimate.
        """
        committed = self.spent + sum(self._reserved.values())
        if not self.limit or (committed < self.limit and committed + estimate <= self.limit):
            return
        waiting = f" and ${committed - self.spent:.4f} is on its way" if self._reserved else ""
        more = f"; what comes next would cost about ${estimate:.4f}" if estimate else ""
        raise SpendLimitError(
            f"judging has cost ${self.spent:.4f}{waiting} of the ${self.limit:g} of "
            f"--max-spend{more}; next: repeat the command with a higher limit to go on"
        )

    def reserve(self, name: str, dollars: float) -> None:
        """Count an estimate as spent until :meth:`release`: it is on its way."""
        self._reserved[name] = dollars

    def release(self, name: str) -> None:
        """What was reserved has been paid, or never will be."""
        self._reserved.pop(name, None)

    def pay(self, purpose: str, model: str, usage: Usage, cost: float, key: str = "") -> None:
        """Count an answer that has arrived.

        Args:
            purpose: of the question.
            model: who answered.
            usage: its tokens.
            cost: US dollars.
            key: names an answer that may be fetched twice and is paid once; new where left out.
        """
        if self._journal is not None:
            if key and self._journal.get("paid", key) is not None:
                return
            entry = {
                "purpose": purpose,
                "model": model,
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cost": cost,
            }
            self._journal.put("paid", key or uuid.uuid4().hex, entry)
        self.spent += cost
        self.spent_in_run += cost
