"""The progress of a training: steps and the last loss, in place of the Trainer's dictionaries."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from tqdm import tqdm
from transformers.trainer_callback import TrainerCallback, TrainerControl, TrainerState

from esr.runs import progress


class StepBar(TrainerCallback):
    """A bar over optimiser steps that goes on where a resumed training does."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bar: tqdm[Any] | None = None

    def on_train_begin(
        self, _arguments: object, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Show it, at the step that is reached."""
        shown = progress.bar(state.max_steps, "training", "step")
        self._bar = self._stack.enter_context(shown)
        self._bar.update(state.global_step)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """One step."""
        if self._bar is not None:
            self._bar.update()

    def on_log(
        self,
        _arguments: object,
        _state: TrainerState,
        _control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """The last loss, of training or validation, beside the bar."""
        losses = {name: value for name, value in (logs or {}).items() if name.endswith("loss")}
        if self._bar is not None and losses:
            name, value = next(iter(losses.items()))
            shown = {"loss": "loss", "eval_loss": "validation loss"}.get(name, name)
            self._bar.set_postfix_str(f"{shown} {float(value):.3f}", refresh=False)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Leave it as it stands."""
        self._stack.close()
        self._bar = None
