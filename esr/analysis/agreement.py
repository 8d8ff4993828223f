"""How far two judges agree on the same responses (paper A.2.2).

Trials are paired by ``trial_id``; one that either judge did not grade is left out and counted.
All intervals come from one bootstrap that draws whole latents; the ranks behind Spearman's
correlation are those of the whole sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esr.analysis import intervals
from esr.analysis.intervals import Array, Bootstrap, Interval, Quantity
from esr.analysis.outcomes import Outcome, paired
from esr.runs.seeds import generator


@dataclass(frozen=True)
class Estimate:
    """A quantity with its interval; NaN and None where it is not defined.

    Attributes:
        value: over all pairs it is defined on.
        n: number of those.
        interval: clustered by latent; None where the draws do not vary.
    """

    value: float
    n: int
    interval: Interval | None


@dataclass(frozen=True)
class Agreement:
    """Two judges on the trials both graded.

    Attributes:
        pairs: trials both graded.
        unpaired: trials that only one of them, or neither, graded.
        multi: share on which they agree whether there is more than one attempt.
        multi_kappa: Cohen's kappa of the same.
        improved: share on which they agree whether a multi-attempt improved, single attempts
            counting as not improved.
        improved_kappa: Cohen's kappa of the same.
        direction: share with the same sign of last minus first score, among trials that both find
            multi-attempt.
        confirmed: share of the first judge's multi-attempts that the second finds too.
        pearson: correlation of first-attempt scores.
        spearman: rank correlation of the same.
        attempts: Pearson's correlation of the numbers of attempts.
    """

    pairs: int
    unpaired: int
    multi: Estimate
    multi_kappa: Estimate
    improved: Estimate
    improved_kappa: Estimate
    direction: Estimate
    confirmed: Estimate
    pearson: Estimate
    spearman: Estimate
    attempts: Estimate


def agree(a: Sequence[Outcome], b: Sequence[Outcome], seed: int) -> Agreement:
    """Everything two judges' verdicts on the same trials say about each other.

    Args:
        a: outcomes by the first judge.
        b: outcomes by the second.
        seed: the run's seed.
    """
    pairs = paired(a, b)
    latents = [x.latent for x, _ in pairs]
    sample = Bootstrap.of(latents, _columns(pairs), generator(seed, "agreement of judges"))

    def estimate(quantity: Quantity, n: float) -> Estimate:
        # Rounding noise must not pass for spread.
        def rounded(totals: Array) -> Array:
            return np.round(quantity(totals), 12)

        value = float(rounded(sample.totals))
        interval = sample.interval(rounded) if np.isfinite(value) else None
        return Estimate(value, int(n), interval)

    n, at = len(pairs), _at(sample.totals)
    names = {o.trial_id for o in (*a, *b)}
    return Agreement(
        pairs=n,
        unpaired=len(names) - n,
        multi=estimate(lambda t: _share(t, "multi"), n),
        multi_kappa=estimate(lambda t: _kappa(t, "multi"), n),
        improved=estimate(lambda t: _share(t, "improved"), n),
        improved_kappa=estimate(lambda t: _kappa(t, "improved"), n),
        direction=estimate(lambda t: _ratio(t, "same_sign", "multi_both"), float(at("multi_both"))),
        confirmed=estimate(
            lambda t: intervals.ratio(
                _at(t)("multi_both"), _at(t)("multi_both") + _at(t)("multi_first")
            ),
            float(at("multi_both") + at("multi_first")),
        ),
        pearson=estimate(lambda t: _correlation(t, "score"), n),
        spearman=estimate(lambda t: _correlation(t, "rank"), n),
        attempts=estimate(lambda t: _correlation(t, "attempts"), n),
    )


_EVENTS = ("multi", "improved")
_CELLS = ("both", "first", "second", "neither")
_VARIABLES = ("score", "rank", "attempts")
_MOMENTS = ("x", "y", "xx", "yy", "xy")
_COLUMNS = (
    "n",
    "same_sign",
    *(f"{event}_{cell}" for event in _EVENTS for cell in _CELLS),
    *(f"{variable}_{moment}" for variable in _VARIABLES for moment in _MOMENTS),
)


def _columns(pairs: Sequence[tuple[Outcome, Outcome]]) -> Array:
    """Per pair what the quantities are sums of: [n_pairs, n_columns]."""
    columns: dict[str, Array] = {"n": np.ones(len(pairs))}
    signs = [(x.multi and y.multi and np.sign(x.change) == np.sign(y.change)) for x, y in pairs]
    columns["same_sign"] = np.array(signs, dtype=float)
    for event in _EVENTS:
        a, b = (np.array([getattr(p[k], event) for p in pairs], dtype=bool) for k in (0, 1))
        cells: Mapping[str, Any] = {"both": a & b, "first": a & ~b, "second": b & ~a}
        columns |= {f"{event}_{name}": cell.astype(float) for name, cell in cells.items()}
        columns[f"{event}_neither"] = (~(a | b)).astype(float)
    scores = [np.array([p[k].first for p in pairs]) for k in (0, 1)]
    counts = [np.array([float(len(p[k].scores or ())) for p in pairs]) for k in (0, 1)]
    for variable, (x, y) in {
        "score": scores,
        "rank": [_ranks(values) for values in scores],
        "attempts": counts,
    }.items():
        # Centred, so that the sums below lose no digits.
        x, y = (values - (values.mean() if len(values) else 0.0) for values in (x, y))
        moments = zip(_MOMENTS, (x, y, x * x, y * y, x * y), strict=True)
        columns |= {f"{variable}_{name}": values for name, values in moments}
    return np.stack([columns[name] for name in _COLUMNS], axis=1)


def _ranks(values: Array) -> Array:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values), dtype=float)


def _at(totals: Array) -> Callable[[str], Array]:
    return lambda name: totals[..., _COLUMNS.index(name)]


def _ratio(totals: Array, numerator: str, denominator: str) -> Array:
    return intervals.ratio(_at(totals)(numerator), _at(totals)(denominator))


def _share(totals: Array, event: str) -> Array:
    at = _at(totals)
    return intervals.ratio(at(f"{event}_both") + at(f"{event}_neither"), at("n"))


def _kappa(totals: Array, event: str) -> Array:
    """Cohen's kappa: agreement beyond what the two judges' own rates would give by chance."""
    at, n = _at(totals), _at(totals)("n")
    first = intervals.ratio(at(f"{event}_both") + at(f"{event}_first"), n)
    second = intervals.ratio(at(f"{event}_both") + at(f"{event}_second"), n)
    chance = first * second + (1 - first) * (1 - second)
    observed = _share(totals, event)
    # Both judges without or with nothing but the event: kappa is not defined.
    return np.where(chance < 1 - 1e-12, intervals.ratio(observed - chance, 1 - chance), np.nan)


def _correlation(totals: Array, variable: str) -> Array:
    at, n = _at(totals), _at(totals)("n")
    x, y, xx, yy, xy = (at(f"{variable}_{moment}") for moment in _MOMENTS)
    spread_x = np.maximum(n * xx - x * x, 0.0)
    spread_y = np.maximum(n * yy - y * y, 0.0)
    product = np.sqrt(spread_x * spread_y)
    defined = product > 1e-9 * np.maximum(n * n, 1.0)
    return np.where(defined, intervals.ratio(n * xy - x * y, product), np.nan)


@dataclass(frozen=True)
class WeightedRates:
    """A judge's rates, carried over from a stratified sample to all trials it was drawn from.

    Attributes:
        graded: trials of the sample that the judge graded.
        multi: multi-attempt rate.
        esr: improved trials of all.
    """

    graded: int
    multi: Estimate
    esr: Estimate


def weighted_rates(
    outcomes: Sequence[Outcome], weights: Mapping[str, float], seed: int
) -> WeightedRates:
    """Rates in which every trial counts for as many as it was drawn to stand for.

    Args:
        outcomes: by one judge, of the sampled trials.
        weights: by trial id: trials of its stratum divided by trials drawn from it.
        seed: the run's seed.
    """
    graded = [o for o in outcomes if o.graded]
    weight = np.array([weights[o.trial_id] for o in graded])
    events = [[1.0, float(o.multi), float(o.improved)] for o in graded]
    columns = np.array(events).reshape(-1, 3) * weight.reshape(-1, 1)
    latents = [o.latent for o in graded]
    sample = Bootstrap.of(latents, columns, generator(seed, "weighted rates"))

    def estimate(column: int) -> Estimate:
        def share(totals: Array) -> Array:
            return intervals.ratio(totals[..., column], totals[..., 0])

        value = float(share(sample.totals))
        interval = sample.interval(share) if np.isfinite(value) else None
        return Estimate(value, len(graded), interval)

    return WeightedRates(len(graded), estimate(1), estimate(2))
