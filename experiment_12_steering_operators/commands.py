"""The steps of experiment 12."""

from __future__ import annotations

from collections.abc import Sequence

from esr.models import REGISTRY
from esr.pipeline import experiment
from esr.runs.commands import choose
from experiment_12_steering_operators import defence, run


def compare(argv: Sequence[str]) -> int:
    """Push towards the parent's concepts by every operator, at equal first score and equal KL."""
    return experiment.main(run.EXPERIMENT, argv)


def defend(argv: Sequence[str]) -> int:
    """The other way round: steer back to the question while a boost pushes away from it."""
    return experiment.main(defence.EXPERIMENT, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the first argument names the step."""
    steps = {"compare": compare, "defend": defend}
    return choose("python -m experiment_12_steering_operators", steps, "compare", argv, REGISTRY)
