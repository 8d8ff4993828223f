"""``python -m experiment_03_off_topic_detectors find|ablate [MODEL]``."""

from __future__ import annotations

from collections.abc import Sequence

from esr.pipeline.experiment import main
from esr.pipeline.steps import choose
from experiment_03_off_topic_detectors import ablate, find


def step_find(argv: Sequence[str]) -> int:
    """Search the dictionary for off-topic detectors and write off_topic_detectors.json."""
    return main(find.EXPERIMENT, argv)


def step_ablate(argv: Sequence[str]) -> int:
    """Replay experiment 1 with the detectors clamped."""
    return main(ablate.EXPERIMENT, argv)


if __name__ == "__main__":
    steps = {"find": step_find, "ablate": step_ablate}
    raise SystemExit(choose("python -m experiment_03_off_topic_detectors", steps, "ablate"))
