"""Figure 2 with five models: drawn from the counts that the paper printed, and marked so.

The trials are made up; that many of them are graded, have several attempts and improve is the
paper's (``data/paper_numbers.json``). Nothing here is a measurement.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from esr.analysis.outcomes import Outcome
from esr.models import REGISTRY
from plotting import plot_exp1
from plotting.figure import Drawn
from plotting.published import published
from plotting.sources import Source
from tests.plotting import printed

MARK = "paper's counts"
NUMBERS = {entry.id: entry for entry in published()}


def number(model: str, quantity: str) -> float:
    """As the paper prints it."""
    value = NUMBERS[f"1/{model}/steered/{quantity}"].value
    assert value is not None
    return value


def counts(model: str) -> tuple[int, int, int]:
    """Trials graded, with several attempts, and improved, from the printed rates."""
    n = NUMBERS[f"1/{model}/steered/multi_attempt_rate"].n
    assert n
    shares = (number(model, f"{name}_rate") / 100 for name in ("multi_attempt", "esr"))
    multi, improved = (round(share * n) for share in shares)
    return n, multi, min(improved, multi)


def outcomes(model: str) -> Iterator[Outcome]:
    """So many trials of each kind, five to a latent, spread over the latents."""
    n, multi, improved = counts(model)
    first = round(number(model, "mean_first_score"))
    step = max(1, n // max(1, multi))
    for place in range(n):
        rank = place // step if place % step == 0 else multi
        start = max(0.0, first + 10.0 * (place % 5 - 2))
        last = start + 40.0 if rank < improved else start
        scores = (start, last) if rank < multi else (start,)
        yield Outcome(place // 5, f"{place}", scores, "graded", prompt=f"p{place % 38}")


@pytest.fixture(scope="module")
def five() -> Drawn:
    sources = [
        Source(f"{REGISTRY[key].title}, {MARK}", key, Path(key), False, list(outcomes(key)))
        for key in printed.PAPER
    ]
    (drawn,) = plot_exp1.figures(sources)
    return drawn


def test_it_is_fit_to_print(five: Drawn) -> None:
    printed.check(five)
    assert five.figure.get_figwidth() <= 7.0
    assert five.figure.get_figheight() <= 9.0, "a page of a journal"


def test_it_shows_the_printed_numbers_with_n(five: Drawn) -> None:
    text = printed.texts(five.figure)
    assert "7.38 % (360/4,877)" in text
    assert "3.83 % (187/4,877)" in text
    for key in printed.PAPER:
        n, multi, improved = counts(key)
        assert f"({multi:,}/{n:,})" in text, key
        assert f"({improved:,}/{multi:,})" in text, key
        assert f"{REGISTRY[key].title}, {MARK}" in text


def test_the_rates_of_all_models_share_a_scale(five: Drawn) -> None:
    panels = [axes for axes in five.figure.axes if axes.get_xlabel() == "% of graded trials"]
    hidden = [axes for axes in five.figure.axes if len(axes.get_yticklabels()) == 2]
    assert len(hidden) == 5
    assert len({axes.get_xlim() for axes in hidden}) == 1
    assert panels, "the lowest one says what it shows"
