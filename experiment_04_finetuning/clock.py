"""How long optimiser steps take, without validation, checkpoints and the first step's warm-up."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from transformers.trainer_callback import TrainerCallback


class StepClock(TrainerCallback):
    """Times every optimiser step of a training.

    Attributes:
        seconds: of each step of this process, in order.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Before the first forward pass of a step."""
        self._begun = _now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """After the weights were updated."""
        self.seconds.append(_now() - self._begun)

    @property
    def median(self) -> float | None:
        """Seconds per step; the first, which warms up, is left out where there are more."""
        timed = self.seconds[1:] or self.seconds
        return statistics.median(timed) if timed else None


def _now() -> float:
    # A GPU still works when Python is done: without waiting, a step would seem to take no time.
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()
