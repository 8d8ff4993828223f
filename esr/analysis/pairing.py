"""Who gets whose intervention where two lists in different orders are paired by position.

A model of the two orders alone, written from what was read (docs/pairing-fault.md); nothing of the
fork is copied. *Scheduled* order: requests that run, in the order in which they came, then those
that are let in. *Row* order: a request keeps its row; one that is let in takes the lowest free row;
what is still free is filled with the last row. The fork pairs the i-th of the one with the i-th of
the other. No model, no engine: a request is a name, an intervention and a number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Request:
    """One response.

    Attributes:
        name: of the request.
        intervention: what steers it; requests of one latent share it.
        steps: tokens until it is finished.
    """

    name: str
    intervention: str
    steps: int


@dataclass(frozen=True)
class Step:
    """One step of the engine: row i of ``rows`` is steered as ``scheduled[i]`` should be."""

    rows: tuple[Request, ...]
    scheduled: tuple[Request, ...]

    @property
    def foreign(self) -> int:
        """Rows that another intervention reaches than their own."""
        pairs = zip(self.rows, self.scheduled, strict=True)
        return sum(row.intervention != given.intervention for row, given in pairs)

    def line(self) -> str:
        """``row<intervention`` of every row; a foreign one is marked."""
        cells = []
        for row, given in zip(self.rows, self.scheduled, strict=True):
            mark = " " if row.intervention == given.intervention else "*"
            cells.append(f"{row.name}<{given.intervention}{mark}")
        return "  ".join(cells).rstrip()


def steps(requests: Sequence[Request], slots: int) -> Iterator[Step]:
    """Run all requests, first come first served, with at most ``slots`` of them at once."""
    waiting, running = list(requests), list[Request]()
    rows: list[Request | None] = []
    left = {request.name: request.steps for request in requests}
    while waiting or running:
        running = [request for request in running if left[request.name]]
        rows = [row if row is not None and left[row.name] else None for row in rows]
        while waiting and len(running) < slots:
            running.append(waiting.pop(0))
            free = rows.index(None) if None in rows else len(rows)
            rows[free : free + 1] = [running[-1]]
        rows = _condensed(rows)
        if running:
            yield Step(tuple(row for row in rows if row is not None), tuple(running))
        for request in running:
            left[request.name] -= 1


def _condensed(rows: Sequence[Request | None]) -> list[Request | None]:
    """Free rows are filled from the end."""
    filled = list(rows)
    while None in filled:
        last = filled.pop()
        if last is not None:
            filled[filled.index(None)] = last
    return filled


def foreign_share(requests: Sequence[Request], slots: int) -> float:
    """Share of all tokens that are steered by another intervention than their own."""
    run = list(steps(requests, slots))
    return sum(step.foreign for step in run) / sum(len(step.rows) for step in run)


def load(
    latents: int, per_latent: int, mean_steps: float, cap: int, rng: np.random.Generator
) -> list[Request]:
    """Requests of many latents, ``per_latent`` of each in a row, lengths geometric up to a cap."""
    lengths = np.minimum(rng.geometric(1 / mean_steps, size=(latents, per_latent)), cap)
    return [
        Request(f"{latent}.{place}", str(latent), int(lengths[latent, place]))
        for latent in range(latents)
        for place in range(per_latent)
    ]
