"""What the worker needs of vLLM's private interfaces is there, and what is refused where it would
steer wrongly."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
from torch.nn import Module

from esr.errors import UserError
from esr.steering.effects import Effects
from esr.steering.interventions import Boost, Clamp, Row, Slot

private = pytest.importorskip("esr.engine.vllm_private")
worker = pytest.importorskip("esr.engine.vllm_worker")


def test_the_installed_vllm_has_every_private_interface() -> None:
    assert private.missing() == []


def test_a_missing_interface_is_named() -> None:
    module = "vllm.v1.core.sched.output"
    wanted = [
        private.Interface(module, "SchedulerOutput", ("finished_req_ids", "gone"), "rows"),
        private.Interface(module, "NoSuchClass", (), "requests"),
        private.Interface("vllm.no_such_module", "Anything", (), "steps"),
        private.Interface(
            "vllm.v1.worker.gpu.model_runner", "GPUModelRunner.execute_model", ("gone",), "dummies"
        ),
    ]
    assert private.missing(wanted) == [
        f"{module}.SchedulerOutput.gone: rows",
        f"{module}.NoSuchClass: requests",
        "vllm.no_such_module.Anything: steps",
        "vllm.v1.worker.gpu.model_runner.GPUModelRunner.execute_model.gone: dummies",
    ]


def test_a_worker_that_lacks_one_stops_with_one_line() -> None:
    with pytest.raises(RuntimeError, match=r"vLLM .* has no SimpleNamespace\._prepare_inputs"):
        private.needed(SimpleNamespace(), "_prepare_inputs")


def config(**changes: Any) -> Any:
    parallel = {"pipeline_parallel_size": 1, "tensor_parallel_size": 2}
    speculative = changes.pop("speculative_config", None)
    return SimpleNamespace(
        parallel_config=SimpleNamespace(**parallel | changes), speculative_config=speculative
    )


def test_ways_to_run_in_which_steering_would_be_wrong_are_refused() -> None:
    plain, postponing = Module(), Module()
    postponing.experts = Module()
    postponing.experts.moe_config = SimpleNamespace(skip_final_all_reduce=True)  # type: ignore[assignment]
    worker.refuse(config(), plain)
    worker.refuse(config(tensor_parallel_size=1), postponing)
    for settings, model, message in (
        (config(pipeline_parallel_size=2), plain, "pipeline parallelism"),
        (config(speculative_config=object()), plain, "speculative decoding"),
        (config(), postponing, "no rank has the residual stream"),
    ):
        with pytest.raises(UserError, match=message) as refused:
            worker.refuse(settings, model)
        assert "\n" not in str(refused.value)


def test_the_operator_is_outside_of_breakable_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where vLLM breaks graphs at run time, whatever is named as a cut, the operator breaks them
    too: else they would keep what it did while they were captured, which is nothing."""
    monkeypatch.setenv("VLLM_USE_BREAKABLE_CUDAGRAPH", "1")
    names = dict(vars(worker))
    exec(inspect.getsource(worker._touch), names)  # Its decorator looks at the variable but once.
    assert names["_touch"].__wrapped__.__name__ == "_touch"
    monkeypatch.delenv("VLLM_USE_BREAKABLE_CUDAGRAPH")
    exec(inspect.getsource(worker._touch), names)
    assert not hasattr(names["_touch"], "__wrapped__")


def test_what_has_no_room_inside_a_graph_is_refused() -> None:
    from esr.engine.validation import check_graph

    check_graph(Effects.of([Boost(1, 1.0), Clamp(2, scope="prompt")], 0, 10))
    gated = [Slot(Row(i), Row(i + 1), gain=1.0) for i in range(17)]
    scopes = [Boost(1, 1.0, scope=f"until {i}") for i in range(1, 6)]
    many = [Boost(i, 1.0) for i in range(1025)]
    for items, message in (
        (gated, "17 gated slots in one request; allowed: at most 16 inside CUDA graphs"),
        (scopes, "5 runs of positions with other slots"),
        (many, "1025 latents and directions"),
    ):
        with pytest.raises(UserError, match=message):
            check_graph(Effects.of(items, 0, 10))
