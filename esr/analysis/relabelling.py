"""Drawing anew which pairs of a search for detectors are the matched ones, within its design.

In the design every response has one matched pair, and no prompt is matched twice. A null that
forgets the second half is too wide where latents follow the prompt, as all real ones do. So a
relabelling is a perfect matching of responses with the prompts that they were paired with, drawn
uniformly: a response is taken from its prompt and given another of its own, which takes that one's
response away, and so on until a prompt is free. Each such loop is as likely as the one that undoes
it, so that all matchings come equally often in the long run.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RESPONSES_PER_LOOP = 4
"""A loop passes many responses; so many loops are walked between two draws, and three at least."""


def matchings(
    responses: Sequence[int],
    prompts: Sequence[int],
    matched: Sequence[bool],
    draws: int,
    rng: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which pairs are matched, drawn ``draws`` times: [draws, n_pairs].

    Args:
        responses: [n_pairs]
        prompts: [n_pairs] of each pair; no response meets a prompt twice.
        matched: [n_pairs] one per response, no prompt twice: where the walk starts.
        draws: how many.
        rng: of :func:`esr.runs.seeds.generator`.

    Raises:
        ValueError: a response without a matched pair or with two, or a prompt matched twice.
    """
    walk = _Walk(responses, prompts, matched)
    # Enough that a draw forgets the one before, of whichever part of the pairs.
    loops = max(3, walk.size // RESPONSES_PER_LOOP)
    for _ in range(10 * loops):
        walk.loop(rng)
    drawn = np.zeros((draws, len(responses)), dtype=bool)
    for row in drawn:
        for _ in range(loops):
            walk.loop(rng)
        row[list(walk.pair_of.values())] = True
    return drawn


class _Walk:
    """A matching that loops change."""

    def __init__(
        self, responses: Sequence[int], prompts: Sequence[int], matched: Sequence[bool]
    ) -> None:
        self.prompts = list(prompts)
        self.pairs: dict[int, list[int]] = {}
        for pair, response in enumerate(responses):
            self.pairs.setdefault(response, []).append(pair)
        chosen = [pair for pair, is_matched in enumerate(matched) if is_matched]
        self.pair_of = {responses[pair]: pair for pair in chosen}
        self.holder = {prompts[pair]: responses[pair] for pair in chosen}
        if not len(chosen) == len(self.pair_of) == len(self.holder) == len(self.pairs):
            raise ValueError("every response has one matched pair, and no prompt is matched twice")
        self.names = list(self.pairs)

    @property
    def size(self) -> int:
        """Responses."""
        return len(self.names)

    def loop(self, rng: np.random.Generator) -> None:
        """From a random response until a prompt is free."""
        response = self.names[int(rng.integers(self.size))]
        del self.holder[self.prompts[self.pair_of[response]]]
        while True:
            before = self.pair_of[response]
            others = [pair for pair in self.pairs[response] if pair != before]
            pair = others[int(rng.integers(len(others)))]
            prompt = self.prompts[pair]
            displaced = self.holder.get(prompt)
            self.pair_of[response], self.holder[prompt] = pair, response
            if displaced is None:
                return
            response = displaced
