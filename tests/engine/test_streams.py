"""Where the residual stream is in a layer's output: measured on stacks of known kinds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Module, ModuleList

from esr.errors import UserError
from esr.steering.batch import Layout, Steering
from esr.steering.effects import Effects
from esr.steering.interventions import Boost
from esr.steering.layers import decoder_layers
from esr.steering.sae import Dictionary
from esr.steering.stream import ADDED, FIRST, MOVED, STREAM, SUM, StreamProbe
from esr.steering.task import ReadTask, Task
from tests.engine.engine_models import D_MODEL

N_LAYERS, N_TOKENS = 3, 8
Output = tuple[Tensor, Tensor | None]


class Stack:
    """Layers of one kind with a nonlinear block each, and a norm at the end."""

    def __init__(self, kind: str, dtype: torch.dtype) -> None:
        make = torch.Generator().manual_seed(2)
        shape = (N_LAYERS, D_MODEL, D_MODEL)
        self.weights = (torch.randn(shape, generator=make) / D_MODEL**0.5).to(dtype)
        self.start = torch.randn(N_TOKENS, D_MODEL, generator=make).to(dtype)
        self.kind = kind

    def layer(self, i: int, hidden: Tensor, residual: Tensor | None) -> Output:
        if self.kind == "half" and residual is not None:
            stream = hidden + 0.5 * residual
        elif self.kind == "sum" and residual is not None:
            stream = hidden + residual
        else:
            stream = hidden
        block = torch.tanh(stream @ self.weights[i])
        if self.kind in ("sum", "half"):
            return block, stream
        return stream + block, stream.clone() if self.kind == "first" else None

    def run(self, probe: StreamProbe) -> None:
        hidden, residual = self.start.clone(), None
        for i in range(N_LAYERS):
            hidden, residual = self.layer(i, hidden, residual)
            if i in probe.layers:
                batch = hidden[None] if self.kind == "batch of one" else hidden
                probe.touch(i, batch, residual)
        pair = self.kind in ("sum", "half") and residual is not None
        last = hidden + residual if pair and residual is not None else hidden
        probe.ended(torch.nn.functional.normalize(last.float(), dim=1)[-1:])


def measured(kind: str, layers: tuple[int, ...], dtype: torch.dtype) -> StreamProbe:
    stack, probe = Stack(kind, dtype), StreamProbe(D_MODEL, layers)
    for disturbance, layer in [("", -1)] + [(d, i) for i in layers for d in (MOVED, ADDED)]:
        probe.disturbance, probe.disturbed = disturbance, layer
        stack.run(probe)
    return probe


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "form"),
    [("sum", SUM), ("first", FIRST), ("tensor", STREAM), ("batch of one", STREAM)],
)
@pytest.mark.parametrize("layers", [(0, 2), (1,)])
def test_what_layers_return_is_measured(
    kind: str, form: str, layers: tuple[int, ...], dtype: torch.dtype
) -> None:
    forms, norms, problem = measured(kind, layers, dtype).results()
    assert problem == ""
    assert forms == dict.fromkeys(layers, form)
    assert set(norms) == set(layers)


def test_a_pair_that_is_neither_is_a_problem() -> None:
    _, _, problem = measured("half", (1,), torch.float32).results()
    assert problem.startswith("layer 1 returns a pair that the next layer neither adds up nor")


def test_a_stream_of_another_shape_and_a_missing_hook_are_problems() -> None:
    probe = StreamProbe(D_MODEL, (1,))
    probe.touch(1, torch.zeros(4, N_TOKENS, D_MODEL), None)
    assert probe.results()[2] == "layer 1 returns [4, 8, 64], not [n_tokens, 64]"
    silent = StreamProbe(D_MODEL, (1,))
    silent.ended(torch.zeros(1, D_MODEL))
    assert silent.results()[2] == "the hooks ran at layers [], not [1]"
    unfinished = StreamProbe(D_MODEL, (1,))
    unfinished.touch(1, torch.ones(N_TOKENS, D_MODEL), torch.ones(N_TOKENS, D_MODEL))
    unfinished.ended(torch.zeros(1, D_MODEL))
    assert unfinished.results()[2] == "what a pass ends in was not seen"


def test_as_many_experts_as_layers_are_no_second_stack() -> None:
    def layer() -> Module:
        module = Module()
        module.experts = ModuleList(Linear(1, 1) for _ in range(3))
        return module

    model = Module()
    model.layers = ModuleList(layer() for _ in range(3))
    assert decoder_layers(model, 3) is model.layers
    model.others = ModuleList(layer() for _ in range(3))
    with pytest.raises(UserError, match="2 stacks of 3 layers"):
        decoder_layers(model, 3)


@pytest.mark.parametrize("form", [SUM, FIRST])
def test_the_measurement_decides_what_is_read_and_written(
    dictionary: Dictionary, form: str
) -> None:
    steering = Steering(dictionary, torch.device("cpu"))
    steering._forms = {0: form}
    read = ReadTask((3, 5), 0, 2)
    steering.admit("a", Task("a", Effects.of([Boost(7, 2.0)], 0, 0)))
    steering.admit("r", Task("r", read=read))
    hidden, residual = torch.randn(2, 3, D_MODEL, generator=torch.Generator().manual_seed(4))
    stream = hidden + residual if form == SUM else hidden.clone()
    other = residual.clone()
    steering.begin_step(Layout(["a", "r"], [1, 2], [0, 0], ["a", "r"]))
    # As vLLM's Transformers backend has it: a batch of one around all rows.
    steering.touch(0, hidden[None], residual[None])
    steering.end_step()
    after = hidden + residual if form == SUM else hidden
    torch.testing.assert_close(after[0], stream[0] + 2 * dictionary.bank([7]).decoder[0])
    torch.testing.assert_close(after[1:], stream[1:])
    if form == FIRST:
        assert torch.equal(residual, other)
    answer = steering.reads.take("r")
    assert answer is not None
    values = torch.frombuffer(bytearray(answer["tensors"][0]["data"]), dtype=torch.float32)
    expected = dictionary.bank([3, 5]).encode(stream[1:])
    torch.testing.assert_close(values.reshape(2, 2), expected)
