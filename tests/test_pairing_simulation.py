"""The two orders of the fork, on loads small enough to follow by hand, and against our engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esr.analysis.pairing import Request, foreign_share, load, steps
from esr.runs.paths import REPOSITORY
from esr.steering.batch import Layout, Steering
from esr.steering.effects import Effects
from esr.steering.interventions import Boost
from esr.steering.sae import Dictionary
from esr.steering.task import Task

SMALL = [Request(n, n.lower(), k) for n, k in (("A", 2), ("B", 5), ("C", 4), ("D", 3), ("E", 2))]
TRACE = [
    "A<a   B<b   C<c",
    "A<a   B<b   C<c",
    "D<b*  B<c*  C<d*",
    "D<b*  B<c*  C<d*",
    "D<b*  B<d*  E<e",
    "E<e",
]


def test_the_trace_by_hand() -> None:
    """A ends: D takes its row, but stands last in the list. C ends: E takes its row, the last."""
    assert [step.line() for step in steps(SMALL, 3)] == TRACE
    assert foreign_share(SMALL, 3) == 8 / 16
    assert sum(request.steps for request in SMALL) == 16


def test_the_page_shows_this_trace() -> None:
    page = (REPOSITORY / "docs" / "pairing-fault.md").read_text(encoding="utf-8")
    assert "\n".join(TRACE) in page


@pytest.mark.parametrize(
    ("per_latent", "row"),
    [
        (1, "| one response per latent, % | 0.0 | 49.7 | 79.0 | 88.8 | 95.8 |"),
        (5, "| five per latent, as in the release, % | 0.0 | 15.3 | 48.4 | 69.8 | 92.4 |"),
    ],
)
def test_the_shares_on_the_page(per_latent: int, row: str) -> None:
    cells = row.split(" | ")[0]
    for slots in (1, 2, 5, 10, 50):
        loads = [load(200, per_latent, 300, 512, np.random.default_rng(s)) for s in range(5)]
        cells += f" | {100 * np.mean([foreign_share(one, slots) for one in loads]):.1f}"
    assert f"{cells} |" == row
    assert row in (REPOSITORY / "docs" / "pairing-fault.md").read_text(encoding="utf-8")


def test_a_gap_is_filled_with_the_last_row() -> None:
    """Nobody waits: the last row moves down, and the list keeps its order."""
    requests = [Request(n, n.lower(), k) for n, k in (("A", 1), ("B", 2), ("C", 3))]
    lines = [step.line() for step in steps(requests, 3)]
    assert lines == ["A<a   B<b   C<c", "C<b*  B<c*", "C<c"]


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_alone_or_with_its_like_nothing_is_foreign(slots: int) -> None:
    """One in flight is always right; so are responses of one latent that only swap their boost."""
    rng = np.random.default_rng(0)
    requests = load(1 if slots > 1 else 40, 20, 12.0, 60, rng)
    assert foreign_share(requests, slots) == 0


def test_every_token_is_generated_once_and_by_its_own_request() -> None:
    requests = load(12, 5, 20.0, 64, np.random.default_rng(1))
    done: dict[str, int] = {}
    for step in steps(requests, 10):
        assert sorted(r.name for r in step.rows) == sorted(r.name for r in step.scheduled)
        assert len(step.rows) <= 10
        for row in step.rows:
            done[row.name] = done.get(row.name, 0) + 1
    assert done == {request.name: request.steps for request in requests}


def test_our_engine_pairs_as_the_simulation_does(tiny_rows: Dictionary) -> None:
    """Rows and list of every step of the trace, given to the worker's own code."""
    steering = Steering(tiny_rows, torch.device("cpu"), scheduler_order=True)
    latents = {request.intervention: i for i, request in enumerate(SMALL)}
    decoder = tiny_rows.bank(list(latents.values())).decoder
    for request in SMALL:
        boost = Boost(latents[request.intervention], 1)
        steering.admit(request.name, Task(request.name, Effects.of([boost], 0, 0)))
    for step in steps(SMALL, 3):
        rows, scheduled = ([r.name for r in side] for side in (step.rows, step.scheduled))
        hidden = torch.zeros(len(rows), decoder.shape[1])
        steering.begin_step(Layout(rows, [1] * len(rows), [0] * len(rows), scheduled))
        steering.touch(0, hidden, None)
        steering.end_step()
        given = [latents[r.intervention] for r in step.scheduled]
        torch.testing.assert_close(hidden, decoder[given])


@pytest.fixture
def tiny_rows() -> Dictionary:
    from esr import models
    from esr.steering import sae

    return sae.load(models.get("tiny").sae)
