"""Off-topic detectors: latents that are silent on answers and active on answers to other questions.

Paper section 2.3: each prompt is paired with its own response (matched) and with another prompt's
(mismatched); activations are max-pooled over the chat. Two ways to choose: a strict criterion,
and separability, the AUC of mismatched against matched pairs. Pure functions of arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from esr.analysis.relabelling import matchings

SILENT = 1e-8
"""A latent whose largest activation in a chat is below this is silent there (paper 2.3)."""

MIN_SHARE = 0.8
"""Least share of mismatched pairs a strict detector is active on (paper 2.3)."""

TOP = 26
"""Latents taken by separability unless told otherwise: as many as the paper's set."""

DERANGEMENTS = 5
"""Mismatched pairs per response unless told otherwise."""

PERMUTATIONS = 1000
"""Relabelings behind the separability null unless told otherwise."""

_BLOCK = 4096


def derangements(n: int, count: int, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Permutations of 0 to n - 1 that leave no point in place, no two of them sharing a pair.

    A random cyclic order is rotated by ``count`` different steps: every pair i -> j with i != j
    is equally likely in each of them.

    Args:
        n: points, at least 2.
        count: at most n - 1.
        rng: of :func:`esr.runs.seeds.generator`.

    Returns:
        ``count`` arrays [n].

    Raises:
        ValueError: more than there are.
    """
    if not 1 <= count <= n - 1:
        raise ValueError(f"{count} derangements of {n} points: there are {max(0, n - 1)} steps")
    cycle = rng.permutation(n)
    steps = 1 + rng.choice(n - 1, size=count, replace=False)
    images = []
    for step in steps:
        image = np.empty(n, dtype=np.int64)
        image[cycle] = np.roll(cycle, -int(step))
        images.append(image)
    return images


def pairing(
    n_prompts: int, count: int, rngs: Sequence[np.random.Generator]
) -> list[tuple[int, int, bool]]:
    """Each response with its own prompt, then with ``count`` others by derangements.

    Args:
        n_prompts: prompts, each with as many responses, which stand prompt by prompt.
        count: mismatched pairs per response.
        rngs: one for the first response of every prompt, one for the second, and so on.

    Returns:
        (index of the response, index of the prompt, whether they match), response by response.
    """
    pairs = []
    for number, rng in enumerate(rngs):
        images = derangements(n_prompts, count, rng)
        for own in range(n_prompts):
            response = own * len(rngs) + number
            pairs.append((response, own, True))
            pairs += [(response, int(image[own]), False) for image in images]
    return pairs


@dataclass(frozen=True, eq=False)
class Pairs:
    """Max-pooled activations of chats that pair prompts with responses.

    Attributes:
        maxima: [n_pairs, d_sae] largest activation over all tokens of the chat.
        matched: [n_pairs] whether the response answers the prompt.
        response: [n_pairs] which response; each has exactly one matched pair.
        prompt: [n_pairs] which prompt, in which no two pairs of one response agree; prompts of
            several rounds of responses are told apart, so that none is matched twice.
    """

    maxima: NDArray[np.float32] = field(repr=False)
    matched: NDArray[np.bool_] = field(repr=False)
    response: NDArray[np.int64] = field(repr=False)
    prompt: NDArray[np.int64] = field(repr=False)

    @classmethod
    def by_response(cls, maxima: NDArray[np.float32], prompts: NDArray[np.int64]) -> Pairs:
        """From [n_responses, n_each, d_sae] and [n_responses, n_each], matched pairs first."""
        n, each, d_sae = maxima.shape
        return cls(
            maxima=maxima.reshape(n * each, d_sae),
            matched=np.tile(np.arange(each) == 0, n),
            response=np.repeat(np.arange(n), each),
            prompt=prompts.reshape(n * each),
        )

    def __post_init__(self) -> None:
        if not self.matched.any() or self.matched.all():
            raise ValueError("both matched and mismatched pairs are needed")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Per latent, all [d_sae].

    Attributes:
        matched_share: share of matched pairs the latent is active on.
        mismatched_share: likewise of mismatched pairs.
        matched_mean: mean of the max-pooled activation over matched pairs.
        mismatched_mean: likewise over mismatched pairs.
        auc: chance that a mismatched pair has the larger activation than a matched one, ties
            counted half; 0.5 where the latent tells nothing.
    """

    matched_share: NDArray[np.float64]
    mismatched_share: NDArray[np.float64]
    matched_mean: NDArray[np.float64]
    mismatched_mean: NDArray[np.float64]
    auc: NDArray[np.float64]

    @property
    def nearest_to_strict(self) -> int:
        """The latent with the largest surplus of mismatched over matched pairs: how far a
        dictionary is from the criterion where nothing passes."""
        return int(np.argmax(self.mismatched_share - self.matched_share))

    def of(self, latent: int) -> dict[str, float]:
        """One latent as plain data; the first four under the names of the authors' files."""
        return {
            "shuffled_mean_activation": float(self.mismatched_mean[latent]),
            "normal_mean_activation": float(self.matched_mean[latent]),
            "shuffled_active_frequency": float(self.mismatched_share[latent]),
            "normal_active_frequency": float(self.matched_share[latent]),
            "auc": float(self.auc[latent]),
        }


def statistics(pairs: Pairs, silent: float = SILENT) -> Statistics:
    """Shares, means and AUC of every latent."""
    own, other = pairs.maxima[pairs.matched], pairs.maxima[~pairs.matched]
    return Statistics(
        matched_share=(own >= silent).mean(axis=0),
        mismatched_share=(other >= silent).mean(axis=0),
        matched_mean=own.mean(axis=0, dtype=np.float64),
        mismatched_mean=other.mean(axis=0, dtype=np.float64),
        auc=_auc(_rank(pairs.maxima), pairs.matched[None])[0],
    )


def strict(stats: Statistics, min_share: float = MIN_SHARE) -> list[int]:
    """Latents silent on every matched pair and active on enough mismatched ones (paper 2.3).

    Ranked by the share of mismatched pairs, then by their mean activation.
    """
    passing = np.flatnonzero((stats.matched_share == 0) & (stats.mismatched_share >= min_share))
    order = np.lexsort((-stats.mismatched_mean[passing], -stats.mismatched_share[passing]))
    return [int(k) for k in passing[order]]


def separable(stats: Statistics, top: int = TOP) -> list[int]:
    """The ``top`` latents of largest AUC above 0.5; ties by mean activation on mismatched pairs."""
    order = np.lexsort((-stats.mismatched_mean, -stats.auc))
    return [int(k) for k in order[:top] if stats.auc[k] > 0.5]


def separability_null(
    pairs: Pairs, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> NDArray[np.float64]:
    """Largest AUC over all latents when it is drawn anew which pairs are matched.

    With thousands of latents and a few hundred pairs some AUC is large by chance; this says how
    large. The draw keeps the design (:mod:`esr.analysis.relabelling`): one matched pair for each
    response and none twice for a prompt, so that what a response or a prompt activates by itself
    counts for neither side.

    Returns:
        [permutations]
    """
    ranks = _rank(pairs.maxima)
    drawn = matchings(
        pairs.response.tolist(), pairs.prompt.tolist(), pairs.matched.tolist(), permutations, rng
    )
    largest = np.zeros(permutations)
    for start in range(0, ranks.shape[1], _BLOCK):
        part = _auc(ranks[:, start : start + _BLOCK], drawn)
        largest = np.maximum(largest, part.max(axis=1))
    return largest


def _rank(maxima: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mid-ranks of the pairs within each latent: [n_pairs, d_sae]."""
    from scipy.stats import rankdata

    blocks = [
        rankdata(maxima[:, start : start + _BLOCK], axis=0)
        for start in range(0, maxima.shape[1], _BLOCK)
    ]
    return np.concatenate(blocks, axis=1)


def _auc(ranks: NDArray[np.float64], matched: NDArray[np.bool_]) -> NDArray[np.float64]:
    """AUC of mismatched over matched from ranks [n_pairs, n] and labelings [m, n_pairs]: [m, n]."""
    own = matched.sum(axis=1)[:, None]
    others = matched.shape[1] - own
    surplus = matched.astype(np.float64) @ ranks - own * (own + 1) / 2
    auc: NDArray[np.float64] = 1.0 - surplus / (own * others)
    return auc
