"""Region statistics and their tests (paper A.4, Table 2). Pure functions of arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from esr.analysis import intervals
from esr.analysis.crossed import Clusters, Estimate
from esr.runs.plain import plain
from esr.runs.seeds import generator

REGIONS = ("off_topic", "correction", "on_topic")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One response as read.

    Attributes:
        trial_id: of the run it comes from.
        latent: the boosted one; episodes that share it form a cluster.
        prompt: the question; likewise.
        values: [n_tokens, n_latents] activations over the response; NaN where a column is the
            boosted latent, which says nothing about detection.
        regions: name -> tokens; empty for a baseline response.
        correction: token at which episodes are aligned.
    """

    trial_id: str
    latent: int
    prompt: str
    values: Array
    regions: Mapping[str, slice]
    correction: int = 0


def region_means(episodes: Sequence[Measured], region: str) -> Array:
    """Mean activation per episode and latent: [n_episodes, n_latents]; NaN for empty regions."""
    return np.stack([_mean(e.values[e.regions[region]]) for e in episodes])


def response_means(responses: Sequence[Measured]) -> Array:
    """The same over whole responses: [n_responses, n_latents]."""
    return np.stack([_mean(r.values) for r in responses])


def _mean(values: Array) -> Array:
    return values.mean(axis=0) if len(values) else np.full(values.shape[1], np.nan)


def cohens_d(a: Array, b: Array) -> float:
    """Difference of means over the pooled sd, sqrt((var a + var b) / 2); NaN where both are 0."""
    if min(len(a), len(b)) < 2:
        return math.nan
    pooled = math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    return float((a.mean() - b.mean()) / pooled) if pooled > 0 else math.nan


def cliffs_delta(a: Array, b: Array) -> float:
    """Chance that a value of ``a`` is above one of ``b`` minus the chance that it is below."""
    if not (len(a) and len(b)):
        return math.nan
    return float(np.sign(a[:, None] - b[None, :]).mean())


def wilcoxon_greater(a: Array, b: Array) -> float:
    """One-sided p of Wilcoxon's signed-rank test that ``a`` exceeds ``b``; 1 where none differ."""
    difference = a - b
    if not np.any(difference):
        return 1.0
    from scipy.stats import wilcoxon

    return float(wilcoxon(difference, alternative="greater").pvalue)


def against(off: Array, on: Array) -> dict[str, Any]:
    """One latent, or the mean of a group, off topic against on topic: [n_episodes] each.

    Episodes in which either is NaN are left out.
    """
    defined = ~(np.isnan(off) | np.isnan(on))
    off, on = off[defined], on[defined]
    statistics = {
        "n": len(off),
        "off_topic_mean": mean_of(off),
        "on_topic_mean": mean_of(on),
        "cohens_d": cohens_d(off, on),
        "cliffs_delta": cliffs_delta(off, on),
        "wilcoxon_p": wilcoxon_greater(off, on),
    }
    return dict(plain(statistics))


def corrected(rows: Sequence[dict[str, Any]]) -> None:
    """Add Holm's and Benjamini and Hochberg's p over the rows of one family, in place."""
    if not rows:
        return
    from statsmodels.stats.multitest import multipletests

    raw = [row["wilcoxon_p"] for row in rows]
    for name, method in (("holm_p", "holm"), ("fdr_p", "fdr_bh")):
        for row, value in zip(rows, multipletests(raw, method=method)[1], strict=True):
            row[name] = float(value)


def group(
    episodes: Sequence[Measured], baseline: Sequence[Measured], columns: Sequence[int], seed: int
) -> dict[str, Any]:
    """The mean over a group of latents: regions, baseline, tests, intervals.

    Args:
        episodes: with regions.
        baseline: whole responses.
        columns: of the group.
        seed: the run's.
    """
    parts = {name: row_mean(region_means(episodes, name)[:, columns]) for name in REGIONS}
    result = against(parts["off_topic"], parts["on_topic"])
    result["correction_mean"] = plain(mean_of(parts["correction"]))
    for name in REGIONS:
        result |= intervals_of_mean(name, parts[name], episodes, seed)
    difference = parts["off_topic"] - parts["on_topic"]
    result |= intervals_of_mean("difference", difference, episodes, seed)
    if baseline:
        base = row_mean(response_means(baseline)[:, columns])
        result["baseline_mean"] = plain(mean_of(base))
        result |= intervals_of_mean("baseline", base, baseline, seed)
        result["baseline_n"] = int((~np.isnan(base)).sum())
        for name in ("off_topic", "on_topic"):
            values = parts[name][~np.isnan(parts[name])]
            ratio = intervals.ratio(mean_of(values), mean_of(base))
            result[f"{name}_over_baseline"] = plain(float(ratio))
            result[f"{name}_against_baseline_p"] = _mann_whitney(values, base[~np.isnan(base)])
    return result


def _mann_whitney(a: Array, b: Array) -> float | None:
    """One-sided p that ``a`` exceeds ``b``."""
    if not (len(a) and len(b)):
        return None
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(a, b, alternative="greater").pvalue)


def intervals_of_mean(
    name: str, values: Array, responses: Sequence[Measured], seed: int
) -> dict[str, list[float] | None]:
    """95 % intervals of a mean over responses; None where nothing varies.

    Args:
        name: before the keys.
        values: [n_responses] of the same responses; NaN is left out.
        responses: whose boosted latents and prompts tie values together.
        seed: the run's.

    Returns:
        ``NAME_interval``, whole latents resampled, and ``NAME_two_way_interval``, latents and
        prompts drawn at random.
    """
    kept = [(v, r) for v, r in zip(values, responses, strict=True) if not math.isnan(v)]
    latents = [response.latent for _, response in kept]
    numbers, ones = np.array([value for value, _ in kept]), np.ones(len(kept))
    by_latent = intervals.Bootstrap.of(
        latents, np.stack([numbers, ones], axis=1), generator(seed, "region bootstrap")
    ).interval(lambda totals: intervals.ratio(totals[..., 0], totals[..., 1]))
    clusters = Clusters.of(latents, [response.prompt for _, response in kept])
    two_way = Estimate.of(numbers, ones, clusters).mean_interval()
    return {
        f"{name}_interval": [by_latent.low, by_latent.high] if by_latent else None,
        f"{name}_two_way_interval": [two_way.low, two_way.high] if two_way else None,
    }


def aligned(episodes: Sequence[Measured], columns: Sequence[int], window: int) -> dict[str, Any]:
    """Mean of a group per token, episodes aligned at the correction (Figure A.15).

    Only tokens from the off-topic start on are used.

    Returns:
        ``offset``, ``mean``, ``sem``, ``n``: [2 * window + 1]; None where no episode has a token.
    """
    table = np.full((len(episodes), 2 * window + 1), np.nan)
    for row, episode in zip(table, episodes, strict=True):
        first = max(episode.regions["off_topic"].start, episode.correction - window)
        last = min(len(episode.values), episode.correction + window + 1)
        start = first - episode.correction + window
        row[start : start + last - first] = row_mean(episode.values[first:last][:, columns])
    defined = np.ma.masked_invalid(table)
    n = defined.count(axis=0)
    sem = np.ma.sqrt(defined.var(axis=0, ddof=1) / np.maximum(n, 1))
    return {
        "offset": list(range(-window, window + 1)),
        "mean": plain(defined.mean(axis=0).filled(np.nan).tolist()),
        "sem": plain(sem.filled(np.nan).tolist()),
        "n": n.tolist(),
    }


def row_mean(values: Array) -> Array:
    """Mean over the columns that are not NaN: [n_rows]; NaN where all are."""
    means: Array = np.ma.masked_invalid(values).mean(axis=1).filled(np.nan)
    return means


def mean_of(values: Array) -> float:
    """Mean of what is not NaN; NaN of nothing."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
