"""What an ablation can find of a circuit through which only a share of the restarts passes.

A weakened circuit is mixed from measured trials: with probability ``share`` a trial comes to what
it came to with the detectors clamped, else to what it came to with a matched random set clamped,
which is the noise of clamping. Latents are drawn anew with each of their trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esr.analysis.crossed import Clusters, Estimate
from esr.analysis.outcomes import outcome_of
from esr.organism import circuit_runs as runs
from esr.organism.circuit_runs import Plan, Subject
from esr.runs import seeds
from esr.runs.results import Results

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
DRAWS = 400
PAPER = {"latents": 1000, "trials": 5, "rate": 0.0738}
"""About the trials of the paper's baseline, and their multi-attempt rate (section 3.4)."""

Multi = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trials:
    """Whether each trial restarted: baseline, detectors clamped, each random set clamped.

    Attributes:
        latents: [n_trials] the boosted latent.
        prompts: [n_trials] the prompt.
        baseline: [n_trials] 1 for several attempts, else 0.
        clamped: likewise with the detectors at 0.
        random: [n_sets, n_trials] likewise with each random set at 0.
    """

    latents: Sequence[int]
    prompts: Sequence[str]
    baseline: Multi
    clamped: Multi
    random: Multi


def read(plan: Plan, subject: Subject, detectors: Sequence[int]) -> Trials | None:
    """The trials graded in every arm; None where an arm has not been run."""
    parent = runs.newest(plan, runs.ESR, subject)
    clamped = runs.newest(plan, runs.ABLATION, subject, detectors)
    drawn = runs.newest(plan, runs.RANDOM, subject)
    if parent is None or clamped is None or drawn is None:
        return None
    names = [name for name in drawn.arms or {} if name.startswith("random-")]
    arms = [_multi(clamped, "ablation", parent), *(_multi(drawn, name, parent) for name in names)]
    shared = sorted(set.intersection(*(set(arm) for arm in arms)))
    own = {t.name: (t, o) for t, o in runs.graded_pairs(clamped, "ablation", parent)}
    table = np.array([[arm[name] for name in shared] for arm in arms], dtype=float)
    return Trials(
        latents=[own[name][1].latent for name in shared],
        prompts=[own[name][1].prompt or "" for name in shared],
        baseline=np.array([float(outcome_of(own[name][1]).multi) for name in shared]),
        clamped=table[0],
        random=table[1:],
    )


def _multi(results: Results, arm: str, parent: Results) -> dict[str, bool]:
    return {t.name: outcome_of(t).multi for t, _ in runs.graded_pairs(results, arm, parent)}


def curves(trials: Trials, seed: int) -> dict[str, Any]:
    """Power over the share, for as many trials as were measured and for the paper's.

    Returns:
        ``share``; ``cut``, the relative reduction of the multi-attempt rate it stands for;
        ``measured``, the share of draws whose two-way interval lies below 0; ``outside``, the share
        whose reduction is larger than that of every random set; ``paper``, as ``measured`` at the
        paper's number of trials and rate.
    """
    n_latents = len(set(trials.latents))
    full = 1 - trials.clamped.mean() / trials.random.mean()
    thinned = min(1.0, PAPER["rate"] / trials.baseline.mean())
    rows: dict[str, list[float]] = {name: [] for name in ("measured", "outside", "paper")}
    for share in SHARES:
        rng = seeds.generator(seed, "weakened circuit", str(share))
        draws = [_draw(trials, share, n_latents, 1.0, rng) for _ in range(DRAWS)]
        rows["measured"].append(float(np.mean([below for below, _ in draws])))
        rows["outside"].append(float(np.mean([outside for _, outside in draws])))
        of_paper = [
            _draw(trials, share, int(PAPER["latents"]), thinned, rng, int(PAPER["trials"]))[0]
            for _ in range(DRAWS // 4)
        ]
        rows["paper"].append(float(np.mean(of_paper)))
    return {
        "share": list(SHARES),
        "cut": [share * float(full) for share in SHARES],
        "trials": len(trials.latents),
        "latents": n_latents,
        **rows,
    }


def _draw(
    trials: Trials,
    share: float,
    n_latents: int,
    thinned: float,
    rng: np.random.Generator,
    per_latent: int = 0,
) -> tuple[bool, bool]:
    """Whether one weakened circuit is seen: by the interval, and outside all random sets.

    Args:
        trials: measured.
        share: of the restarts that pass through the circuit.
        n_latents: drawn, with replacement.
        thinned: share of restarts that are kept, in each arm by itself.
        rng: of :func:`esr.runs.seeds.generator`.
        per_latent: trials drawn of each latent; all where 0.
    """
    codes = np.unique(np.array(trials.latents), return_inverse=True)[1]
    members = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    chosen = [members[code] for code in rng.integers(0, len(members), n_latents)]
    if per_latent:
        chosen = [rng.choice(own, min(per_latent, len(own)), replace=False) for own in chosen]
    at = np.concatenate(chosen)
    latents = np.repeat(np.arange(n_latents), [len(own) for own in chosen])
    number = int(rng.integers(len(trials.random)))
    through = rng.random(len(at)) < share
    arm = np.where(through, trials.clamped[at], trials.random[number, at])
    keep = rng.random((2, len(at))) < thinned
    difference = arm * keep[0] - trials.baseline[at] * keep[1]
    clusters = Clusters.of(latents.tolist(), [trials.prompts[i] for i in at])
    interval = Estimate.of(difference, np.ones(len(at)), clusters).mean_interval()
    others = np.delete(trials.random[:, at], number, axis=0).mean(axis=1)
    outside = not len(others) or arm.mean() < others.min()
    return interval is not None and interval.high < 0, bool(outside)
