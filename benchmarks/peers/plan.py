"""Arms by name and the sizes of a measurement; imports no library that takes a second."""

from __future__ import annotations

import importlib.metadata
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNSTEERED, STEERED = "ours, unsteered", "ours, a boost each"

HUGGING_FACE, SAE_LENS = "Hugging Face batch, a hook", "SAELens generate, a hook"
STEERING_VECTORS, NNSIGHT = "steering-vectors", "nnsight"

PACKAGES: Mapping[str, str] = {
    HUGGING_FACE: "transformers",
    SAE_LENS: "sae-lens",
    STEERING_VECTORS: "steering-vectors",
    NNSIGHT: "nnsight",
}
"""Peer -> its package, in the order of the table."""


@dataclass(frozen=True)
class Sizes:
    """Of one measurement.

    Attributes:
        requests: per run.
        in_flight: slots of our engine and size of the peers' batches.
        prompt: tokens of a prompt.
        tokens: mean tokens of a response.
        rounds: runs of every arm on every workload.
    """

    requests: int = 128
    in_flight: int = 64
    prompt: int = 32
    tokens: int = 48
    rounds: int = 5


def installed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Peers that can run here, and one line for each that cannot."""
    present, missing = [], []
    for name in names:
        try:
            importlib.metadata.version(PACKAGES[name])
        except importlib.metadata.PackageNotFoundError:
            missing.append(
                f"{name} is left out: {PACKAGES[name]} is not installed; next: pip install "
                "--no-deps --target .peers -r benchmarks/peers/requirements.txt, and "
                "PYTHONPATH=.peers"
            )
        else:
            present.append(name)
    return present, missing


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(statistics.median(values))
