"""Seeds. There is no global random state: every draw names its purpose and its key."""

from __future__ import annotations

import json

import numpy as np

from esr.runs.plain import digest

LARGEST = 1_000_000
"""Generation seeds lie in [0, 1e6], as in the paper (section 2.1)."""


def _digest(run_seed: int, purpose: str, key: tuple[str | int, ...]) -> int:
    text = json.dumps([run_seed, purpose, *key])
    return int(digest(text, 16), 16)


def derive(run_seed: int, purpose: str, *key: str | int) -> int:
    """A seed in [0, 1e6] for one generation; the same arguments give the same seed."""
    return _digest(run_seed, purpose, key) % (LARGEST + 1)


def generator(run_seed: int, purpose: str, *key: str | int) -> np.random.Generator:
    """A NumPy generator for one purpose, e.g. drawing candidates or resampling."""
    return np.random.default_rng(_digest(run_seed, purpose, key))
