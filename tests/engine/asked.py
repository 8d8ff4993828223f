"""Tasks as requests ask for them."""

from __future__ import annotations

import torch

from esr.steering.effects import Effects
from esr.steering.interventions import Intervention
from esr.steering.task import ReadTask, Task

CPU = torch.device("cpu")


def asked(
    name: str,
    *items: Intervention,
    layer: int = 0,
    n_prompt: int = 0,
    read: ReadTask | None = None,
) -> Task:
    return Task(name, Effects.of(items, layer, n_prompt), read)
