"""The link between vLLM and the worker: tasks, runners, causes, the faulty pairing."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from esr.engine.log import root_cause
from esr.steering.batch import Layout, Steering
from esr.steering.interventions import Boost, Row, Slot
from esr.steering.sae import Dictionary
from esr.steering.task import CONFIG_KEY, ReadTask, Task
from tests.engine.asked import CPU, asked
from tests.engine.engine_models import D_MODEL


def test_tasks_survive_the_journey() -> None:
    task = asked(
        "k#1",
        Boost(3, 0.1, scope="until 7"),
        Slot(Row(0, "f" * 16), Row(4), gain=1.0, low=0.5),
        n_prompt=17,
        read=ReadTask(None, 2, 30),
    )
    again = Task.from_wire(task.to_wire())
    assert (again.key, again.read) == (task.key, task.read)
    assert again.effects.content == task.effects.content
    chosen = Task("k", read=ReadTask((5, 1), 0, 9))
    assert Task.from_wire(chosen.to_wire()).read == chosen.read


class FakeRunner:
    """Speaks like one of vLLM's two model runners, as far as the link listens."""

    def __init__(self, v2: bool, stream: torch.Tensor, steering: Steering) -> None:
        self.v2, self.stream, self.steering = v2, stream, steering
        self.input_batch = SimpleNamespace()
        self._prepare_inputs = self.prepare_inputs = self._prepare

    def _prepare(self, scheduler_output: Any) -> Any:
        ids = scheduler_output.rows
        batch = SimpleNamespace(req_ids=ids)
        name = "num_computed_tokens_np" if self.v2 else "num_computed_tokens_cpu"
        setattr(batch, name, np.zeros(8, dtype=np.int32))
        self.input_batch = batch
        return batch

    def execute_model(self, scheduler_output: Any, dummy_run: bool = False) -> None:
        if not dummy_run:
            getattr(self, "prepare_inputs" if self.v2 else "_prepare_inputs")(scheduler_output)
        torch.ops.esr.touch(self.stream, None, 0)


@pytest.mark.parametrize("v2", [False, True])
def test_link_follows_either_runner(dictionary: Dictionary, v2: bool) -> None:
    worker = pytest.importorskip("esr.engine.vllm_worker")
    steering = Steering(dictionary, CPU)
    stream = torch.zeros(3, D_MODEL)
    runner = FakeRunner(v2, stream, steering)
    worker.link(runner, steering, v2=v2)

    def new(name: str, latent: int) -> Any:
        extra = {CONFIG_KEY: asked(name, Boost(latent, 1.0)).to_wire()}
        return SimpleNamespace(req_id=name, sampling_params=SimpleNamespace(extra_args=extra))

    def step(finished: set[str], news: list[Any], rows: list[str]) -> Any:
        return SimpleNamespace(
            finished_req_ids=finished,
            scheduled_new_reqs=news,
            rows=rows,
            num_scheduled_tokens=dict.fromkeys(sorted(rows), 1),
        )

    first, second = dictionary.bank([1, 2]).decoder
    runner.execute_model(step(set(), [new("a", 1), new("b", 2)], ["b", "a"]))
    torch.testing.assert_close(stream, torch.stack([second, first, torch.zeros(D_MODEL)]))
    runner.execute_model(step({"b"}, [], ["plain", "a"]))
    torch.testing.assert_close(stream[0], second)
    torch.testing.assert_close(stream[1], 2 * first)
    runner.execute_model(step(set(), [], []), dummy_run=True)
    torch.testing.assert_close(stream[1], 2 * first)
    assert steering.steered_rows == 3


def test_root_cause_is_the_error_that_came_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "(EngineCore pid=1) ERROR [core.py:1] Traceback (most recent call last):\n"
        "(EngineCore pid=1) ERROR [core.py:1] ValueError: too little memory\n"
        "RuntimeError: Worker failed with error 'too little memory'\n"
    )
    assert root_cause(log) == "ValueError: too little memory"
    log.write_text("all is well\n")
    assert root_cause(log) == ""


def test_the_faulty_pairing_counts_whose_intervention_reaches_a_token(
    dictionary: Dictionary,
) -> None:
    """Rows b, a, c, d; listed a, b, d, c. c and d ask for the same, so they swap nothing; u asks
    for nothing and is not counted, but who is steered as u should be is not steered."""
    steering = Steering(dictionary, CPU, scheduler_order=True)
    for name, latent in (("a", 1), ("b", 2), ("c", 3), ("d", 3)):
        steering.admit(name, asked(f"key {name}", Boost(latent, 1.0)))
    steps = [
        Layout(["b", "a", "c", "d"], [4, 1, 1, 1], [0, 0, 0, 0], ["a", "b", "d", "c"]),
        Layout(["b", "u", "a"], [1, 1, 1], [4, 0, 1], ["u", "b", "a"]),
    ]
    for step in steps:
        steering.begin_step(step)
        steering.touch(0, torch.zeros(sum(step.counts), D_MODEL), None)
        steering.end_step()
    assert steering.pairing is not None
    steering.forget("a")
    taken = {name: steering.pairing.take(f"key {name}") for name in "abcd"}
    assert taken == {
        "a": {"own": 1, "other": 1, "none": 0},
        "b": {"own": 0, "other": 4, "none": 1},
        "c": {"own": 1, "other": 0, "none": 0},
        "d": {"own": 1, "other": 0, "none": 0},
    }
    assert steering.pairing.take("key a") is None, "taken once"
    assert Steering(dictionary, CPU).pairing is None
