"""Fair nulls of "a restart helps": N3, the same prompt again, and N4, the same position.

The redraws of :mod:`esr.analysis.metrics` compare a last attempt, which nobody gave up, with first
attempts to other questions. Two comparisons do not have that fault; both need responses or
verdicts of their own (experiment 11):

* **N3, same-prompt redraw**: the same latent, boost and prompt under new seeds. A redraw counts
  where its first attempt was not given up, as the last attempt of the original was not.
* **N4, position**: responses without a restart, cut where others restart, both parts graded. The
  tail of an answer may beat its head without any restart. Cuts are compared with restarts from
  first attempts as good as their heads.

Above 0, the excess says that a restart brought more than that. Simulated processes in which a
restart brings nothing are in ``tests/analysis/test_nulls.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from esr.analysis.crossed import NO_SPREAD, Clusters, Estimate, student_quantile
from esr.analysis.intervals import Array, Interval
from esr.analysis.outcomes import Outcome
from esr.runs.plain import plain
from esr.runs.summary import FairNullEntry

CALIPER = 10.0
"""Largest distance of the head of a cut from a first attempt that it stands for, in points."""


@dataclass(frozen=True)
class FairNull:
    """How often the last attempt beats the first, and how often it would have without a restart.

    Attributes:
        rate: mean chance over the trials counted; NaN where ``n`` is 0.
        improved: of the same trials, how many really improved.
        n: multi-attempt trials with something to compare with.
        excluded: multi-attempt trials without.
        compared: redraws, or cuts, that they were compared with.
        left_out: redraws given up or not graded; cuts of which a part was not graded, or whose
            head is like no first attempt.
        rate_interval: 95 %, latents and prompts drawn at random; None where there is no spread.
        excess_interval: likewise, of :attr:`excess`.
    """

    rate: float
    improved: int
    n: int
    excluded: int
    compared: int
    left_out: int
    rate_interval: Interval | None
    excess_interval: Interval | None

    @property
    def excess(self) -> float:
        """Improvement rate minus null over the same trials."""
        return self.improved / self.n - self.rate if self.n else float("nan")

    def entry(self) -> FairNullEntry:
        """As plain JSON."""
        return {
            "rate": plain(self.rate),
            "n": self.n,
            "excluded": self.excluded,
            "improved": self.improved,
            "compared": self.compared,
            "left_out": self.left_out,
            "two_way_interval": plain(self.rate_interval),
            "excess": plain(self.excess),
            "excess_two_way_interval": plain(self.excess_interval),
        }


def same_prompt_redraw(
    outcomes: Sequence[Outcome], redraws: Mapping[str, Sequence[Outcome]]
) -> FairNull:
    """N3.

    Args:
        outcomes: of one arm; trials of one attempt are not looked at.
        redraws: ``trial_id`` of an original -> outcomes of its redraws: same latent, boost and
            prompt, other seeds. A redraw with several attempts gave its first one up and is left
            out, as is one that was not graded.
    """
    multi = [o for o in outcomes if o.multi]
    pools = [
        np.array([r.first for r in redraws.get(o.trial_id, ()) if r.graded and not r.multi])
        for o in multi
    ]
    chances = np.array(
        [
            (pool > o.first).mean() if pool.size else np.nan
            for o, pool in zip(multi, pools, strict=True)
        ]
    )
    counted = ~np.isnan(chances)
    some = [o for o, c in zip(multi, counted, strict=True) if c]
    null = chances[counted]
    improved = np.array([float(o.improved) for o in some])
    ones, clusters = np.ones(len(some)), _clusters(some)
    drawn = sum(len(redraws.get(o.trial_id, ())) for o in multi)
    compared = sum(pool.size for pool in pools)
    return FairNull(
        rate=float(null.mean()) if some else float("nan"),
        improved=int(improved.sum()),
        n=len(some),
        excluded=len(multi) - len(some),
        compared=compared,
        left_out=drawn - compared,
        rate_interval=Estimate.of(null, ones, clusters).rate_interval(),
        excess_interval=Estimate.of(improved - null, ones, clusters).mean_interval(),
    )


@dataclass(frozen=True)
class Cut:
    """A response of one attempt, cut in two, both parts graded as answers of their own.

    Attributes:
        latent: the boosted one.
        prompt: id of the question.
        head: score of the part before the cut, 0 to 100; None where it was not graded.
        tail: likewise of the part behind it.
    """

    latent: int
    prompt: str
    head: float | None
    tail: float | None


def cut_positions(
    restarts: Sequence[tuple[int, int]],
    lengths: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> list[int | None]:
    """Where responses without a restart are cut: where others of the same latent restart.

    Args:
        restarts: (latent, position of the first restart) of multi-attempt trials, in tokens or in
            characters.
        lengths: (latent, length) of the responses to be cut, in the same unit.
        rng: of :func:`esr.runs.seeds.generator`.

    Returns:
        per response a position drawn from the restarts of its latent that lie inside it, from
        those of all latents where its own has none; None where none lies inside.
    """
    cuts: list[int | None] = []
    for latent, length in lengths:
        inside = [(of, at) for of, at in restarts if 0 < at < length]
        own = [at for of, at in inside if of == latent]
        pool = own or [at for _, at in inside]
        cuts.append(int(pool[rng.integers(len(pool))]) if pool else None)
    return cuts


def position(
    outcomes: Sequence[Outcome], cuts: Sequence[Cut], caliper: float = CALIPER
) -> FairNull:
    """N4.

    A multi-attempt trial is compared with all cuts whose head scores within ``caliper`` points of
    its first attempt, under any latent: the chance is the share of them whose tail scores above the
    head.

    Args:
        outcomes: of one arm; trials of one attempt are not looked at.
        cuts: of single-attempt responses of the same arm, at positions of
            :func:`cut_positions`.
        caliper: see above.
    """
    multi = [o for o in outcomes if o.multi]
    graded = [c for c in cuts if c.head is not None and c.tail is not None]
    heads, tails = (np.array([getattr(c, k) for c in graded], float) for k in ("head", "tail"))
    rises = (tails > heads).astype(float)
    firsts = np.array([o.first for o in multi])
    alike = (np.abs(firsts[:, None] - heads[None, :]) <= caliper).astype(float)
    counted = alike.sum(axis=1) > 0 if multi else np.zeros(0, dtype=bool)
    weights = alike[counted] / alike[counted].sum(axis=1, keepdims=True)
    null = weights @ rises
    some = [o for o, c in zip(multi, counted, strict=True) if c]
    improved = np.array([float(o.improved) for o in some])
    used = weights.sum(axis=0) > 0
    n = len(some)
    clusters = _clusters([*some, *graded])
    # A cut moves the null by its weight over all trials that it stands for.
    of_cuts = -(weights * (rises[None, :] - null[:, None])).sum(axis=0) / max(1, n)
    return FairNull(
        rate=float(null.mean()) if n else float("nan"),
        improved=int(improved.sum()),
        n=n,
        excluded=len(multi) - n,
        compared=int(used.sum()),
        left_out=len(cuts) - int(used.sum()),
        rate_interval=_interval(null, -of_cuts, clusters),
        excess_interval=_interval(improved - null, of_cuts, clusters),
    )


def _interval(values: Array, of_cuts: Array, clusters: Clusters) -> Interval | None:
    """Mean of values over trials, of which cuts move it too: mean ± t standard errors."""
    if not values.size:
        return None
    residuals = np.concatenate([(values - values.mean()) / values.size, of_cuts])
    variance = clusters.variance(residuals)
    if not variance > NO_SPREAD:
        return None
    half = student_quantile(clusters.fewest - 1) * float(np.sqrt(variance))
    return Interval(float(values.mean()) - half, float(values.mean()) + half)


def _clusters(trials: Sequence[Outcome | Cut]) -> Clusters:
    """Latents and prompts; latents alone where not every prompt is recorded."""
    latents: list[int | str] = [t.latent for t in trials]
    prompts: list[int | str] = [t.prompt for t in trials]
    return Clusters.of(*([latents, prompts] if all(prompts) else [latents]))
