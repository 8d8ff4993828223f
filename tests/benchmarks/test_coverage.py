"""The coverage benchmark: its truth is the truth, and its rows are what they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import Design


def test_odds_give_the_rate_they_are_said_to() -> None:
    """A million trials, each under a latent and a prompt of its own."""
    rng = np.random.default_rng(0)
    for rate in (0.004, 0.038, 0.5):
        design = Design(1000, 5, rate, between_latents=1.5, between_prompts=1.0)
        effects = rng.gamma(1.5**-2, 1.5**2, 10**6) * rng.gamma(1, 1, 10**6)
        odds = design.odds() * effects
        assert (odds / (1 + odds)).mean() == pytest.approx(rate, rel=0.02)


def test_prompts_are_those_of_a_latent_drawn_without_replacement() -> None:
    events, clusters = Design(40, 15, 0.5, 0, 0).draw(1.0, np.random.default_rng(0))
    assert events.shape == (600,)
    assert len(set(zip(*(codes.tolist() for codes in clusters.codes), strict=True))) == 600
    assert len(set(clusters.cells.tolist())) == 600
    assert clusters.fewest == 38


def test_two_way_holds_where_the_paper_and_latents_alone_do_not() -> None:
    shares = coverage.coverage(Design(1000, 5, 0.5, 0, 0.5), 60, seed=0, resamples=200)
    assert shares["two-way"] >= 0.88
    assert shares["by prompt"] >= 0.88
    assert max(shares["paper"], shares["by latent"]) < 0.75


def test_same_seed_same_table_and_only_between_the_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "designs", lambda: iter([Design(40, 15, 0.038, 0, 1)]))
    table = coverage.table(20, 1, 100)
    assert table == coverage.table(20, 1, 100) != coverage.table(20, 2, 100)
    document = tmp_path / "statistics.md"
    document.write_text(f"before\n{coverage.MARKS[0]}\nold\n{coverage.MARKS[1]}\nafter\n")
    monkeypatch.setattr(coverage, "DOCUMENT", document)
    coverage.write(table)
    expected = f"before\n{coverage.MARKS[0]}\n{table}\n{coverage.MARKS[1]}\nafter\n"
    assert document.read_text() == expected


def test_committed_table_has_every_design() -> None:
    """And no cell that is not a share."""
    document = coverage.DOCUMENT.read_text(encoding="utf-8")
    body = document.split(coverage.MARKS[0])[1].split(coverage.MARKS[1])[0]
    rows = [row.strip("| ").split(" | ") for row in body.splitlines() if row.startswith("|")][2:]
    designs = [
        (f"{d.latents:,} x {d.trials}", f"{100 * d.rate:g} %", d.between_latents, d.between_prompts)
        for d in coverage.designs()
    ]
    assert [(r[0], r[1], float(r[2]), float(r[3])) for r in rows] == designs
    assert all(0 <= float(cell) <= 1 for row in rows for cell in row[4:])
