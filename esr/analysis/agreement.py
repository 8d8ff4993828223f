"""How far two judges agree on the same responses (paper A.2.2).

Trials are paired by ``trial_id``; one that either judge did not grade is left out and counted.
Two-way intervals take latents and prompts as drawn at random, those by latent come from one
bootstrap that draws whole latents; the ranks behind Spearman's correlation are those of the whole
sample. Without a design every pair counts as one, as in the
paper; with one, each counts for as many trials as it was drawn to stand for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from esr.analysis import crossed, intervals
from esr.analysis.crossed import Clusters
from esr.analysis.intervals import Array, Bootstrap, Interval, Quantity
from esr.analysis.outcomes import Outcome, paired
from esr.analysis.stratified import Design, Estimate
from esr.runs.seeds import generator


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
    return _agreement(pairs, np.ones(len(pairs)), _unpaired(a, b, pairs), seed)


def agree_weighted(
    a: Sequence[Outcome], b: Sequence[Outcome], design: Design, seed: int
) -> Agreement | None:
    """:func:`agree` over all trials that a sample was drawn from.

    Args:
        a: outcomes by the first judge.
        b: outcomes by the second.
        design: how the trials were drawn.
        seed: the run's seed.

    Returns:
        None where a stratum has trials and none that both graded.
    """
    pairs = paired(a, b)
    weights = _weights(design, [x for x, _ in pairs])
    if weights is None:
        return None
    return _agreement(pairs, weights, _unpaired(a, b, pairs), seed)


def _unpaired(a: Sequence[Outcome], b: Sequence[Outcome], pairs: Sequence[object]) -> int:
    return len({o.trial_id for o in (*a, *b)}) - len(pairs)


def _weights(design: Design, outcomes: Sequence[Outcome]) -> Array | None:
    """Of each outcome: [n]; None where a stratum has none."""
    weights = design.weights(o.trial_id for o in outcomes)
    return None if weights is None else np.array([weights[o.trial_id] for o in outcomes])


def _agreement(
    pairs: Sequence[tuple[Outcome, Outcome]], weights: Array, unpaired: int, seed: int
) -> Agreement:
    columns = _columns(pairs, weights)
    sums = _Sums.of([x for x, _ in pairs], columns, generator(seed, "agreement of judges"))
    share, scaled = sums.share, sums.scaled
    n, at = len(pairs), _at(columns)
    return Agreement(
        pairs=n,
        unpaired=unpaired,
        multi=share(lambda t: _share(t, "multi"), weights),
        multi_kappa=scaled(lambda t: _kappa(t, "multi"), n),
        improved=share(lambda t: _share(t, "improved"), weights),
        improved_kappa=scaled(lambda t: _kappa(t, "improved"), n),
        direction=share(lambda t: _ratio(t, "same_sign", "multi_both"), at("multi_both")),
        confirmed=share(
            lambda t: intervals.ratio(
                _at(t)("multi_both"), _at(t)("multi_both") + _at(t)("multi_first")
            ),
            at("multi_both") + at("multi_first"),
        ),
        pearson=scaled(lambda t: _correlation(t, "score"), n),
        spearman=scaled(lambda t: _correlation(t, "rank"), n),
        attempts=scaled(lambda t: _correlation(t, "attempts"), n),
    )


@dataclass(frozen=True, eq=False)
class _Sums:
    """What quantities are functions of, and how well latents and prompts fix it.

    Attributes:
        columns: [n_trials, n_columns] what is summed.
        sample: the sums, and the same with whole latents drawn anew.
        clusters: of the same trials.
    """

    columns: Array
    sample: Bootstrap
    clusters: Clusters

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], columns: Array, rng: np.random.Generator) -> _Sums:
        latents, prompts = [o.latent for o in outcomes], [o.prompt for o in outcomes]
        sample = Bootstrap.of(latents, columns, rng)
        return cls(columns, sample, Clusters.of(latents, prompts))

    def share(self, quantity: Quantity, weights: Array) -> Estimate:
        """A share of the pairs that weigh something: [n_pairs]."""
        n = round(crossed.effective_size(weights))
        two_way = self._linearised(quantity).share_interval(n)
        return self._estimate(quantity, int((weights > 0).sum()), two_way)

    def scaled(self, quantity: Quantity, n: int) -> Estimate:
        """A correlation or kappa."""
        return self._estimate(quantity, n, self._linearised(quantity).correlation_interval())

    def _linearised(self, quantity: Quantity) -> crossed.Estimate:
        return crossed.Estimate.of_sums(quantity, self.columns, self.clusters)

    def _estimate(self, quantity: Quantity, n: int, two_way: Interval | None) -> Estimate:
        # Rounding noise must not pass for spread.
        def rounded(totals: Array) -> Array:
            return np.round(quantity(totals), crossed.DIGITS)

        value = float(rounded(self.sample.totals))
        if not np.isfinite(value):
            return Estimate(value, n, None)
        return Estimate(value, n, self.sample.interval(rounded), two_way)


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


def _columns(pairs: Sequence[tuple[Outcome, Outcome]], weights: Array) -> Array:
    """Per pair what the quantities are sums of, times its weight: [n_pairs, n_columns]."""
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
        "rank": [_ranks(values, weights) for values in scores],
        "attempts": counts,
    }.items():
        # Centred, so that the sums below lose no digits.
        x, y = (
            values - (np.average(values, weights=weights) if len(values) else 0.0)
            for values in (x, y)
        )
        moments = zip(_MOMENTS, (x, y, x * x, y * y, x * y), strict=True)
        columns |= {f"{variable}_{name}": values for name, values in moments}
    return np.stack([columns[name] for name in _COLUMNS], axis=1) * weights.reshape(-1, 1)


def _ranks(values: Array, weights: Array) -> Array:
    """Mean ranks of a list in which every value stands as often as its weight says."""
    _, group = np.unique(values, return_inverse=True)
    sizes = np.bincount(group, weights=weights)
    middle = np.cumsum(sizes) - sizes / 2 + 0.5
    return np.asarray(middle[group] if len(values) else values, dtype=float)


def _at(totals: Array) -> Callable[[str], Array]:
    return lambda name: totals[..., _COLUMNS.index(name)]


def _ratio(totals: Array, numerator: str, denominator: str) -> Array:
    return intervals.ratio(_at(totals)(numerator), _at(totals)(denominator))


def _share(totals: Array, event: str) -> Array:
    at = _at(totals)
    return intervals.ratio(at(f"{event}_both") + at(f"{event}_neither"), at("n"))


def _kappa(totals: Array, event: str) -> Array:
    """Cohen's kappa: agreement beyond what the two judges' own rates would give by chance."""
    at = _at(totals)
    return _kappa_of(np.stack([*(at(f"{event}_{cell}") for cell in _CELLS), at("n")], axis=-1))


def _kappa_of(cells: Array) -> Array:
    """Kappa from sums of both, first only, second only, neither and all: [..., 5] -> [...]."""
    both, first_only, second_only, neither, n = np.moveaxis(cells, -1, 0)
    first = intervals.ratio(both + first_only, n)
    second = intervals.ratio(both + second_only, n)
    chance = first * second + (1 - first) * (1 - second)
    observed = intervals.ratio(both + neither, n)
    # Both without or with nothing but the event: kappa is not defined.
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
class GateAgreement:
    """A judge's multi-attempts and restarts that the text announces (:mod:`esr.judge.gate`).

    Attributes:
        pairs: graded trials whose text is known.
        multi: share on which judge and gate agree.
        multi_kappa: Cohen's kappa of the same.
        announced: share of the judge's multi-attempts that are announced.
        counted: share of announced restarts that the judge counts.
    """

    pairs: int
    multi: Estimate
    multi_kappa: Estimate
    announced: Estimate
    counted: Estimate


def agree_with_gate(
    outcomes: Sequence[Outcome], seed: int, design: Design | None = None
) -> GateAgreement | None:
    """How far a judge's multi-attempts are the announced restarts.

    Args:
        outcomes: by one judge.
        seed: the run's seed.
        design: how the trials were drawn, for an agreement over all they were drawn from.

    Returns:
        None where a stratum of the design has trials and none that was graded.
    """
    known = [o for o in outcomes if o.graded and o.announced is not None]
    weights = _weights(design, known) if design else np.ones(len(known))
    if weights is None:
        return None
    cells = np.array(
        [
            (o.multi and o.announced, o.multi and not o.announced, not o.multi and o.announced)
            for o in known
        ],
        dtype=float,
    ).reshape(-1, 3)
    columns = np.column_stack([cells, 1 - cells.sum(axis=1), np.ones(len(known))])
    rng = generator(seed, "agreement with the gate")
    sums = _Sums.of(known, columns * weights.reshape(-1, 1), rng)
    share = sums.share
    both, judge_only, gate_only = cells.T * weights
    return GateAgreement(
        pairs=len(known),
        multi=share(lambda t: intervals.ratio(t[..., 0] + t[..., 3], t[..., 4]), weights),
        multi_kappa=sums.scaled(_kappa_of, len(known)),
        announced=share(
            lambda t: intervals.ratio(t[..., 0], t[..., 0] + t[..., 1]), both + judge_only
        ),
        counted=share(
            lambda t: intervals.ratio(t[..., 0], t[..., 0] + t[..., 2]), both + gate_only
        ),
    )
