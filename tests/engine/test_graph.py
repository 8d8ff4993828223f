"""Steering as a CUDA graph would run it: recorded once, then replayed without any Python.

There is no CUDA on the machines that run this. Tracing records the same thing, the operations on
the buffers that were there, and a replay of the trace is blind for everything that Python decides.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from esr.steering.batch import Layout, Steering
from esr.steering.effects import Effects
from esr.steering.graph import GraphSizes
from esr.steering.interventions import Boost, Clamp, Intervention, Row, Scale, Slot
from esr.steering.sae import Dictionary
from esr.steering.stream import FIRST, SUM
from esr.steering.task import ReadTask, Task
from tests.engine.engine_models import D_MODEL, D_SAE

CPU = torch.device("cpu")
PADDED = (4, 8, 16)
"""Batch sizes that have a graph; a step takes the next larger one."""

Replay = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make(dictionary: Dictionary, dtype: torch.dtype = torch.float32) -> Steering:
    sizes = GraphSizes(tokens=16, lines=32, rows=128, dtype=dtype)
    return Steering(dictionary, CPU, layers=(1,), feature_layer=1, graph=sizes)


def recorded(steering: Steering) -> dict[int, Replay]:
    """One graph per size, as vLLM records them while it warms up: nobody is steered."""

    def touch(hidden: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        hidden, residual = hidden.clone(), residual.clone()
        steering.touch(1, hidden, residual)
        return hidden, residual

    example = torch.randn(2, 16, D_MODEL)
    return {n: make_fx(touch)(example[0, :n], example[1, :n]) for n in PADDED}


def asked(rng: random.Random) -> tuple[Intervention, ...]:
    k, scope = rng.randrange(D_SAE - 2), rng.choice(["all", "generated", "until 2"])
    return rng.choice(
        [
            (),
            (Boost(k, 2.0, scope=scope),),
            (Clamp(k, 0.5), Boost(k + 1, -1.0, scope=scope)),
            (Scale(k, 3.0), Slot(Row(k), Row(k + 1), boost=1.0, low=0.2, scope=scope)),
        ]
    )


@pytest.mark.parametrize("form", [SUM, FIRST])
def test_replays_equal_what_runs_outside_of_graphs(dictionary: Dictionary, form: str) -> None:
    """Random batches of requests that come, go and change places, with padding behind them."""
    rng = random.Random(5)
    torch.manual_seed(5)
    inside, outside = make(dictionary), Steering(dictionary, CPU, layers=(1,), feature_layer=1)
    graphs = recorded(inside)
    outside._forms = {1: form}
    inside._layers[1].is_sum.fill_(form == SUM)  # type: ignore[union-attr]
    tasks: dict[str, Task] = {}
    for step in range(50):
        for name in [n for n in tasks if rng.random() < 0.2]:
            del tasks[name]
            inside.forget(name)
            outside.forget(name)
        while len(tasks) < 5:
            name = f"q{step}.{len(tasks)}"
            tasks[name] = Task(name, Effects.of(asked(rng), 1, rng.choice([0, 3])))
            inside.admit(name, tasks[name])
            outside.admit(name, tasks[name])
        ids = rng.sample(list(tasks), rng.randint(1, 5))
        layout = Layout(
            ids, [rng.randint(1, 3) for _ in ids], [rng.randint(0, 5) for _ in ids], ids
        )
        n_rows = sum(layout.counts)
        padded = min(n for n in PADDED if n >= n_rows)
        hidden, residual = torch.randn(2, padded, D_MODEL)
        inside.begin_step(layout)
        outside.begin_step(layout)
        steered = graphs[padded](hidden, residual)
        expected = hidden.clone(), residual.clone()
        outside.touch(1, *expected)
        inside.end_step()
        outside.end_step()
        for ours, theirs, before in zip(steered, expected, (hidden, residual), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
            assert torch.equal(ours[n_rows:], before[n_rows:]), "padding stays as it was"
        untouched = (expected[0] == hidden).all(1)
        assert torch.equal(steered[0][untouched], hidden[untouched])
    assert inside.steered_rows == outside.steered_rows > 100


def test_reads_come_from_the_recorded_stream(dictionary: Dictionary) -> None:
    steering = make(dictionary)
    graphs = recorded(steering)
    effects = Effects.of([Boost(9, 3.0)], 1, 0)
    steering.admit("r", Task("key", effects, ReadTask((4, 2), 1, 6)))
    stream = torch.randn(6, D_MODEL, generator=torch.Generator().manual_seed(1))
    for position, count in ((0, 2), (2, 4)):
        steering.begin_step(Layout(["r"], [count], [position], ["r"]))
        rows = torch.zeros(4, D_MODEL)
        rows[:count] = stream[position : position + count]
        graphs[4](rows, torch.zeros_like(rows))
        steering.end_step()
    answer = steering.reads.take("key")
    assert answer is not None
    assert answer["problem"] == ""
    values = torch.frombuffer(bytearray(answer["tensors"][0]["data"]), dtype=torch.float32)
    steered = stream + 3.0 * dictionary.bank([9]).decoder[0]
    torch.testing.assert_close(values.reshape(5, 2), dictionary.bank([4, 2]).encode(steered[1:]))


def test_a_graph_without_the_hook_stops_the_engine(dictionary: Dictionary) -> None:
    steering = make(dictionary)
    steering.admit("a", Task("a", Effects.of([Boost(1, 1.0)], 1, 0)))
    steering.begin_step(Layout(["a"], [2], [0], ["a"]))
    with pytest.raises(RuntimeError, match="0 rows are steered at layer 1, not 2"):
        steering.end_step()


def test_addresses_do_not_change(dictionary: Dictionary) -> None:
    steering = make(dictionary)
    layer = steering._layers[1]
    buffers = [layer.lines.table, layer.lines.columns, layer.lines.gates, steering._in_play.packed]
    addresses = [buffer.data_ptr() for buffer in buffers]
    for i in range(20):
        items = (Clamp(i), Slot(Row(i), Row(i + 1), gain=1.0, high=2.0))
        steering.admit(str(i), Task(str(i), Effects.of(items, 1, 0)))
    now = [layer.lines.table, layer.lines.columns, layer.lines.gates, steering._in_play.packed]
    assert [buffer.data_ptr() for buffer in now] == addresses
    boost = Effects.of([Boost(1, 1.0)], 1, 0)
    for i in range(20, 32):
        steering.admit(str(i), Task(str(i), boost))
    with pytest.raises(RuntimeError, match="no free line"):
        steering.admit("33rd", Task("33rd", boost))
