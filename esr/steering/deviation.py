"""How far a step is off its boosts: the self-test's own arithmetic, from the dictionary itself."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from esr.steering.in_play import load
from esr.steering.interventions import Row
from esr.steering.sae import Dictionary


def deviation(
    before: Tensor,
    after: Tensor,
    pushes: Iterable[tuple[int, int, Row, float]],
    dictionary: Dictionary,
) -> float:
    """The largest difference to what was to be added, on all rows: those of unsteered requests are
    to stay as they were.

    Args:
        before: [n_rows, d_model], the stream before steering.
        after: the same shape.
        pushes: first row and number of rows, what is added, how much of it.
        dictionary: of what is added.

    Returns:
        Relative to the row's largest entry.
    """
    expected = before.float()
    for first, n, row, boost in pushes:
        decoder = load(dictionary, [row]).decoder[0].to(expected.device)
        expected[first : first + n] += boost * decoder
    off = (after.float() - expected).abs().amax(1)
    return float((off / expected.abs().amax(1).clamp(min=1e-30)).max())
