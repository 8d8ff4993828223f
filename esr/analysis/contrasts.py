"""Differences and ratios of two arms whose latents and prompts are drawn at random.

The interval of each arm alone is combined with how far both go together in the latents and prompts
that they share (Newcombe 1998, method 10; Zou and Donner 2008): the distance to an end is
``sqrt(a^2 - 2 r a b + b^2)``, where a and b are the distances to the ends of the single intervals
and r is the correlation. So an arm without any event, whose clusters cannot vary, still brings its
own uncertainty. Ratios go the same way on the scale of logarithms. Mean scores take plus and minus
t standard errors. ``benchmarks/coverage.py`` measures how often these intervals hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from esr.analysis.crossed import NO_SPREAD, Clusters, student_quantile
from esr.analysis.intervals import Array, Interval
from esr.analysis.quantities import NO_SHARES, Ratio, Table


@dataclass(frozen=True, eq=False)
class Contrast:
    """Two arms and the groups that their trials fall into together.

    Attributes:
        first: trials of the first arm.
        second: trials of the second arm.
        clusters: of the trials of both, those of the first before those of the second.
    """

    first: Table
    second: Table
    clusters: Clusters

    @classmethod
    def of(cls, first: Table, second: Table, shared_latents: bool = True) -> Contrast:
        """Two arms.

        Args:
            first: of the first arm.
            second: of the second.
            shared_latents: whether equal latent numbers mean the same latent.
        """
        trials = [(arm, o) for arm, table in enumerate((first, second)) for o in table.outcomes]
        names: dict[str, list[Any]] = {
            "latent": [(o.latent, 0 if shared_latents else arm) for arm, o in trials],
            "prompt": [o.prompt for _, o in trials],
        }
        together = Table([o for _, o in trials], np.concatenate([first.columns, second.columns]))
        clusters = Clusters.of(*(names[by] for by in together.clustered_by))
        return cls(first, second, clusters)

    def difference(self, ratio: Ratio) -> Interval | None:
        """Interval of first minus second; None where either has none."""
        values = self.first.value(ratio), self.second.value(ratio)
        if ratio in NO_SHARES:
            return self._by_residuals(values[0] - values[1], *self._residuals(ratio))
        return self._combined(ratio, logarithms=False)

    def risk_ratio(self, ratio: Ratio) -> Interval | None:
        """Interval of first divided by second; None where either is 0 or has none."""
        values = self.first.value(ratio), self.second.value(ratio)
        if not all(value > 0 for value in values):
            return None
        if ratio in NO_SHARES:
            a, b = (
                part / value for part, value in zip(self._residuals(ratio), values, strict=True)
            )
            logs = self._by_residuals(math.log(values[0] / values[1]), a, b)
        else:
            logs = self._combined(ratio, logarithms=True)
        return None if logs is None else Interval(math.exp(logs.low), math.exp(logs.high))

    def _residuals(self, ratio: Ratio) -> tuple[Array, Array]:
        """What each trial adds to either estimate, 0 in the other arm: [n_first + n_second]."""
        parts = []
        for table in (self.first, self.second):
            numerator, denominator = (table.column(name) for name in ratio)
            total = float(denominator.sum()) or math.nan
            parts.append((numerator - table.value(ratio) * denominator) / total)
        first, second = parts
        return (
            np.concatenate([first, np.zeros_like(second)]),
            np.concatenate([np.zeros_like(first), second]),
        )

    def _by_residuals(self, value: float, a: Array, b: Array) -> Interval | None:
        """Value ± t standard errors of the difference of two sums; None without spread."""
        variance = self.clusters.variance(a - b)
        if not variance > NO_SPREAD:
            return None
        half = student_quantile(self.clusters.fewest - 1) * math.sqrt(variance)
        return Interval(value - half, value + half)

    def _combined(self, ratio: Ratio, *, logarithms: bool) -> Interval | None:
        """From both intervals and the correlation, of shares or of their logarithms."""
        ends = [table.two_way(ratio) for table in (self.first, self.second)]
        if None in ends:
            return None
        rows = [
            (table.value(ratio), *interval)
            for table, interval in zip((self.first, self.second), ends, strict=True)
            if interval is not None
        ]
        first, second = ([math.log(x) for x in row] if logarithms else list(row) for row in rows)
        (a, low_a, high_a), (b, low_b, high_b) = first, second
        r = self._correlation(ratio)
        return Interval(
            a - b - _distance(a - low_a, high_b - b, r), a - b + _distance(high_a - a, b - low_b, r)
        )

    def _correlation(self, ratio: Ratio) -> float:
        """Of the two estimates; 0 where either does not vary."""
        a, b = self._residuals(ratio)
        variances = self.clusters.variance(a), self.clusters.variance(b)
        if not all(variance > NO_SPREAD for variance in variances):
            return 0.0
        together = (sum(variances) - self.clusters.variance(a - b)) / 2
        return min(1.0, max(-1.0, together / math.sqrt(variances[0] * variances[1])))


def _distance(a: float, b: float, correlation: float) -> float:
    return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))
