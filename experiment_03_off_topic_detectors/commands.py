"""The steps of experiment 3."""

from __future__ import annotations

from collections.abc import Sequence

from esr.models import REGISTRY
from esr.pipeline import experiment
from esr.runs.commands import choose
from experiment_03_off_topic_detectors import ablate, find


def find_detectors(argv: Sequence[str]) -> int:
    """Search the dictionary for off-topic detectors and write off_topic_detectors.json."""
    return experiment.main(find.EXPERIMENT, argv)


def ablate_detectors(argv: Sequence[str]) -> int:
    """Replay experiment 1 with the detectors clamped."""
    return experiment.main(ablate.EXPERIMENT, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; the first argument names the step."""
    steps = {"find": find_detectors, "ablate": ablate_detectors}
    return choose("python -m experiment_03_off_topic_detectors", steps, "ablate", argv, REGISTRY)
