"""Who gets whose intervention where two lists in different orders are paired by position.

A model of the two orders alone, written from what was read (docs/pairing-fault.md); nothing of the
fork is copied. *Scheduled* order: requests that run, in the order in which they came, then those
that are let in. *Row* order: a request keeps its row; one that is let in takes the lowest free row;
what is still free is filled with the last row. The fork pairs the i-th of the one with the i-th of
the other. No model, no engine: a request is a name, an intervention and a number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from esr.analysis.crossed import Clusters, Estimate
from esr.analysis.outcomes import Outcome
from esr.runs.plain import plain
from esr.runs.summary import ShareEntry, SteeredBy


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
    for step, n in stretches(requests, slots):
        yield from repeat(step, n)


def stretches(requests: Sequence[Request], slots: int) -> Iterator[tuple[Step, int]]:
    """:func:`steps`, each with how many in a row are the same: until a request is finished."""
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
        if not running:
            return
        n = min(left[request.name] for request in running)
        yield Step(tuple(row for row in rows if row is not None), tuple(running)), n
        for request in running:
            left[request.name] -= n


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
    run = list(stretches(requests, slots))
    return sum(step.foreign * n for step, n in run) / sum(len(step.rows) * n for step, n in run)


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


@dataclass(frozen=True)
class Tokens:
    """One trial, and whose intervention reached its tokens, prompt included.

    Attributes:
        outcome: of the trial.
        steered_by: tokens under "own", "other" or "none"; empty where they were not counted.
    """

    outcome: Outcome
    steered_by: Mapping[str, int]


KINDS = ("own", "other", "none")
"""Its own intervention, or one that is the same; another one; none, where it should have one."""


def steered_by(trials: Sequence[Tokens]) -> SteeredBy:
    """Shares of all tokens of the trials that were counted, latents and prompts drawn at random.

    ``other_by_outcome`` is the share under another intervention in trials that came to the same,
    None where there are none: what a restart that improved had that others had not.
    """
    counted = [trial for trial in trials if sum(trial.steered_by.values())]
    totals = np.array([sum(t.steered_by.values()) for t in counted], dtype=float)
    shares: dict[str, ShareEntry] = {}
    clusters = _clusters(counted)
    for kind in KINDS:
        parts = np.array([t.steered_by.get(kind, 0) for t in counted], dtype=float)
        estimate = Estimate.of(parts, totals, clusters)
        interval = estimate.rate_interval()
        shares[kind] = {
            "rate": plain(estimate.value),
            "two_way_interval": None if interval is None else [interval.low, interval.high],
        }
    groups = {
        "improved": [t for t in counted if t.outcome.improved],
        "restarted, not improved": [
            t for t in counted if t.outcome.multi and not t.outcome.improved
        ],
        "single": [t for t in counted if t.outcome.graded and not t.outcome.multi],
    }
    return {
        "trials": len(counted),
        "tokens": int(totals.sum()),
        "own": shares["own"],
        "other": shares["other"],
        "none": shares["none"],
        "other_by_outcome": {name: _other(group) for name, group in groups.items()},
    }


def _other(trials: Sequence[Tokens]) -> float | None:
    total = sum(sum(trial.steered_by.values()) for trial in trials)
    return sum(t.steered_by.get("other", 0) for t in trials) / total if total else None


def _clusters(trials: Sequence[Tokens]) -> Clusters:
    """Latents and prompts; latents alone where not every trial has its prompt on record."""
    groupings = [[trial.outcome.latent for trial in trials]]
    prompts = [trial.outcome.prompt for trial in trials]
    return Clusters.of(*groupings, *([prompts] if all(prompts) else []))
