"""A stratified sample and the trials it was drawn from: weights and post-stratified rates.

Experiment 7 draws all multi-attempt trials and few of the others. What is said of all trials then
weighs each stratum by its size, which is known, over the trials of it that were graded; where a
stratum has trials and none of them was graded there is no rate, not one of the other stratum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from esr.analysis import crossed, intervals
from esr.analysis.crossed import Clusters
from esr.analysis.intervals import Array, Bootstrap, Interval
from esr.analysis.outcomes import Outcome
from esr.runs.seeds import generator


@dataclass(frozen=True)
class Estimate:
    """A quantity with its interval; NaN and None where it is not defined.

    Attributes:
        value: over all trials or pairs it is defined on.
        n: number of those.
        interval: clustered by latent; None where the draws do not vary.
        two_way: latents and prompts drawn at random; None where nothing varies.
    """

    value: float
    n: int
    interval: Interval | None
    two_way: Interval | None = None


Cell = tuple[int, str]
"""A latent and the id of a prompt."""

UNDEFINED = float("nan")


@dataclass(frozen=True)
class Design:
    """How trials were drawn.

    Attributes:
        strata: stratum by trial id, of at least the trials drawn.
        cells: by stratum, how many trials of each latent under each prompt there were to draw from.
    """

    strata: Mapping[str, str]
    cells: Mapping[str, Mapping[Cell, int]]

    @classmethod
    def whole(cls, outcomes: Sequence[Outcome]) -> Design:
        """Every graded trial drawn: one stratum."""
        graded = [o for o in outcomes if o.graded]
        counts = Counter(o.cell for o in graded)
        return cls({o.trial_id: "all" for o in graded}, {"all": counts})

    @property
    def sizes(self) -> dict[str, int]:
        """Trials of each stratum, those without any left out."""
        sizes = {name: sum(counts.values()) for name, counts in self.cells.items()}
        return {name: size for name, size in sizes.items() if size}

    def weights(self, trial_ids: Iterable[str]) -> dict[str, float] | None:
        """How many trials each of some drawn trials stands for; None where a stratum has none."""
        names = {trial_id: self.strata[trial_id] for trial_id in trial_ids}
        drawn = Counter(names.values())
        if any(not drawn[stratum] for stratum in self.sizes):
            return None
        return {trial: self.sizes[name] / drawn[name] for trial, name in names.items()}


@dataclass(frozen=True)
class Rates:
    """A judge's rates over all trials a sample was drawn from.

    Attributes:
        graded: trials of the sample that the judge graded.
        multi: multi-attempt rate.
        esr: improved trials of all.
    """

    graded: int
    multi: Estimate
    esr: Estimate


def rates(outcomes: Sequence[Outcome], design: Design, seed: int) -> Rates:
    """Post-stratified rates: sum over strata of share of all trials times rate within.

    The sizes of the strata vary with the latents and prompts that are drawn at random: those bring
    all their trials, drawn or not.

    Args:
        outcomes: by one judge, of trials that were drawn.
        design: how they were drawn.
        seed: the run's seed.
    """
    graded = [o for o in outcomes if o.graded]
    sizes = list(design.sizes)
    cells: list[Cell] = []
    rows: list[Array] = []
    for index, stratum in enumerate(sizes):
        for cell, count in design.cells[stratum].items():
            cells.append(cell)
            rows.append(_row(len(sizes), index, (float(count), 0.0, 0.0, 0.0)))
    for o in graded:
        cells.append(o.cell)
        index = sizes.index(design.strata[o.trial_id])
        rows.append(_row(len(sizes), index, (0.0, 1.0, float(o.multi), float(o.improved))))
    columns = np.array(rows).reshape(len(rows), 4 * len(sizes))
    latents, prompts = [latent for latent, _ in cells], [prompt for _, prompt in cells]
    sample = Bootstrap.of(latents, columns, generator(seed, "weighted rates"))
    clusters = Clusters.of(latents, prompts)

    def estimate(column: int) -> Estimate:
        def share(totals: Array) -> Array:
            by_stratum = totals.reshape(*totals.shape[:-1], len(sizes), 4)
            within = intervals.ratio(by_stratum[..., column], by_stratum[..., 1])
            weight = intervals.ratio(by_stratum[..., 0], by_stratum[..., 0].sum(-1, keepdims=True))
            # A stratum that a draw leaves without trials weighs nothing there.
            return np.asarray(np.where(weight > 0, weight * within, 0.0).sum(axis=-1))

        weights = design.weights(o.trial_id for o in graded)
        if not sizes or weights is None:
            return Estimate(UNDEFINED, len(graded), None)
        found = crossed.Estimate.of_sums(share, columns, clusters)
        two_way = found.share_interval(round(crossed.effective_size(list(weights.values()))))
        return Estimate(found.value, len(graded), sample.interval(share), two_way)

    return Rates(len(graded), estimate(2), estimate(3))


def _row(n_strata: int, index: int, values: tuple[float, ...]) -> Array:
    """The columns of one stratum, zeros in those of the others: [4 * n_strata]."""
    row = np.zeros((n_strata, 4))
    row[index] = values
    return np.asarray(row.ravel())
