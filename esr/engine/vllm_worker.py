"""Inside vLLM's worker: hooks on the decoder layers, and the link between steps and requests.

Named by ``worker_cls``; runs in vLLM's process, on stock vLLM. The attributes of vLLM used here
are private, so the version is pinned, a missing attribute stops the start with one message, and
a step whose hook did not run stops the engine (:meth:`Steering.end_step`).
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from vllm.compilation.breakable_cudagraph import eager_break_during_capture
from vllm.config import VllmConfig
from vllm.platforms import current_platform
from vllm.utils.torch_utils import direct_register_custom_op

from esr.engine.end_with_client import end_with_client
from esr.engine.vllm_private import needed
from esr.errors import UserError
from esr.steering.batch import Layout, Steering
from esr.steering.graph import GraphSizes
from esr.steering.layers import decoder_layers
from esr.steering.limits import GRAPH_ROWS
from esr.steering.sae import Dictionary
from esr.steering.stream import Streams
from esr.steering.task import CONFIG_KEY, Task

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as BaseWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as BaseWorker

TOUCH = "esr::touch"
"""The custom operator the hooks call: opaque to the compiler, run as Python in every step."""

_current: Steering | None = None
"""The worker whose model is running. None during warm-up and profiling runs, but for a worker whose
hooks are inside CUDA graphs: these are recorded then."""


@eager_break_during_capture  # Does nothing except under vLLM's "breakable" CUDA graphs.
def _touch(hidden: torch.Tensor, residual: torch.Tensor | None, layer: int) -> None:
    if _current is not None:
        _current.touch(layer, hidden, residual)


def _touch_fake(hidden: torch.Tensor, residual: torch.Tensor | None, layer: int) -> None:
    del hidden, residual, layer


_LIBRARY = torch.library.Library("esr", "FRAGMENT")
direct_register_custom_op(
    "touch",
    _touch,
    mutates_args=["hidden", "residual"],
    fake_impl=_touch_fake,
    target_lib=_LIBRARY,
)


class SteeringWorker(BaseWorker):
    """vLLM's worker with steering; every rank of a tensor-parallel group acts identically,
    because the residual stream is replicated."""

    def load_model(self, **options: Any) -> None:
        """Load, then hook: before the first forward pass, which is the one that compiles."""
        end_with_client()
        super().load_model(**options)
        self._attach()

    def esr_take(self, key: str) -> dict[str, Any] | None:
        """A finished reading, on the rank that keeps it."""
        return self.steering.reads.take(key)

    def esr_pairing(self, key: str) -> dict[str, int] | None:
        """What steered the tokens of a finished request, under the faulty pairing."""
        counts = self.steering.pairing
        taken = None if counts is None else counts.take(key)
        return None if taken is None else dict(taken)

    def esr_counters(self) -> dict[str, int]:
        """Rows steered and plans built since the start."""
        return {
            "steered_rows": self.steering.steered_rows,
            "plans_built": self.steering.plans_built,
        }

    def esr_model(self) -> str:
        """The class that runs the model."""
        return type(self.model_runner.get_model()).__name__

    def esr_probe(self, disturbance: str, layer: int) -> None:
        """Measure with the next pass; see :mod:`esr.steering.stream`."""
        if self.steering.probe is None:
            self.steering.start_probe()
        assert self.steering.probe is not None
        self.steering.probe.disturbance, self.steering.probe.disturbed = disturbance, layer

    def esr_end_probe(self) -> Streams:
        """See :meth:`Steering.end_probe`."""
        return self.steering.end_probe()

    def esr_watch(self, on: bool) -> float:
        """How far steering was off since this was last called; 0 where it was not watched."""
        deviation = self.steering.deviation or 0.0
        self.steering.deviation = 0.0 if on else None
        return deviation

    def _attach(self) -> None:
        options = self.vllm_config.additional_config[CONFIG_KEY]
        runner = self.model_runner
        self.steering = Steering(
            Dictionary.open(Path(options["rows"])),
            torch.device(runner.device),
            layers=options["layers"],
            feature_layer=options["feature_layer"],
            scheduler_order=options["pairing"] == "scheduler-order",
            reads=self.rank == 0,
            graph=self._graph_sizes() if options["in_graph"] else None,
        )
        # A graph records what the hooks do while vLLM warms up.
        global _current
        _current = self.steering if options["in_graph"] else None
        n_layers = self.vllm_config.model_config.hf_text_config.num_hidden_layers
        model = runner.get_model()
        refuse(self.vllm_config, model)
        layers = decoder_layers(model, n_layers)
        for layer in self.steering.hooked:
            hook(layers[layer], layer)
        watch_end(model, self.steering)
        link(runner, self.steering, v2=bool(self.use_v2_model_runner))
        if current_platform.is_cpu() and not self.use_v2_model_runner:
            keep_generators_of_discarded_rows(runner)

    def _graph_sizes(self) -> GraphSizes:
        config = self.vllm_config
        return GraphSizes(
            tokens=max(
                config.scheduler_config.max_num_batched_tokens,
                config.compilation_config.max_cudagraph_capture_size or 0,
            ),
            lines=config.additional_config[CONFIG_KEY]["lines"],
            rows=GRAPH_ROWS,
            dtype=config.model_config.dtype,
        )


def refuse(config: VllmConfig, model: torch.nn.Module) -> None:
    """Refuse ways to run in which steering would be wrong.

    Raises:
        UserError: one of them is at work.
    """
    parallel = config.parallel_config
    if parallel.pipeline_parallel_size > 1:
        raise UserError(
            "pipeline parallelism leaves the steering layer on one rank only",
            "tensor parallelism",
            "--tensor-parallel N",
        )
    if config.speculative_config is not None:
        raise UserError(
            "speculative decoding feeds tokens that are taken back", "none", "leave it out"
        )
    experts = (getattr(module, "moe_config", None) for module in model.modules())
    if parallel.tensor_parallel_size > 1 and any(
        getattr(expert, "skip_final_all_reduce", False) for expert in experts
    ):
        raise UserError(
            f"the layers of {type(model).__name__} leave their last sum over ranks to the next "
            "layer: no rank has the residual stream",
            "one rank for this model",
            "--tensor-parallel 1",
        )


def hook(layer: torch.nn.Module, number: int) -> None:
    """Call :data:`TOUCH` on the layer's output: a tensor, or a tuple that begins with one."""

    def touch(_module: Any, _args: Any, output: Any) -> None:
        parts = (output,) if isinstance(output, torch.Tensor) else output
        if not isinstance(parts, tuple) or not isinstance(parts[0], torch.Tensor):
            raise UserError(f"layer {number} returns a {type(output).__name__}, not a tensor")
        second = parts[1] if len(parts) > 1 else None
        if not isinstance(second, torch.Tensor) or second.shape != parts[0].shape:
            second = None
        torch.ops.esr.touch(parts[0], None if second is parts[0] else second, number)

    layer.register_forward_hook(touch)


def watch_end(model: Any, steering: Steering) -> None:
    """Tell the probe what each pass ends in."""

    def watched(compute: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(compute)
        def compute_logits(hidden: torch.Tensor, *args: Any, **options: Any) -> Any:
            if steering.probe is not None:
                steering.probe.ended(hidden)
            return compute(hidden, *args, **options)

        return compute_logits

    model.compute_logits = watched(needed(model, "compute_logits"))
    if hasattr(model, "compute_logits_local"):  # The V2 runner's, where ranks share the sampling.
        model.compute_logits_local = watched(model.compute_logits_local)


def link(runner: Any, steering: Steering, *, v2: bool) -> None:
    """Tell ``steering`` of requests that come and go, and of the rows of each step."""
    prepare = "prepare_inputs" if v2 else "_prepare_inputs"
    run, lay_out = needed(runner, "execute_model"), needed(runner, prepare)

    @functools.wraps(run)
    def execute_model(scheduler_output: Any, *args: Any, **options: Any) -> Any:
        global _current
        if options.get("dummy_run"):
            return run(scheduler_output, *args, **options)
        for request_id in scheduler_output.finished_req_ids:
            steering.forget(request_id)
        for new in scheduler_output.scheduled_new_reqs:
            extra = (new.sampling_params and new.sampling_params.extra_args) or {}
            if CONFIG_KEY in extra:
                steering.admit(new.req_id, Task.from_wire(extra[CONFIG_KEY]))
        _current = steering
        try:
            result = run(scheduler_output, *args, **options)
            steering.end_step()
            return result
        finally:
            _current = steering if steering.graph else None

    @functools.wraps(lay_out)
    def prepare_inputs(scheduler_output: Any, *args: Any, **options: Any) -> Any:
        result = lay_out(scheduler_output, *args, **options)
        batch = result if v2 else runner.input_batch
        computed = batch.num_computed_tokens_np if v2 else batch.num_computed_tokens_cpu
        ids = list(batch.req_ids)
        scheduled = scheduler_output.num_scheduled_tokens
        steering.begin_step(
            Layout(ids, [scheduled[i] for i in ids], computed[: len(ids)].tolist(), list(scheduled))
        )
        return result

    runner.execute_model = execute_model
    setattr(runner, prepare, prepare_inputs)


def keep_generators_of_discarded_rows(runner: Any) -> None:
    """Let an unfinished prefill chunk draw from no request's generator.

    vLLM samples every row, also that of a chunk whose prompt goes on, and then rewinds the
    generator of the discarded sample. CPU generators cannot be rewound: stock vLLM dies there.
    Without a generator such a row draws from the default one, and nothing is to be rewound.
    """
    sample = needed(runner, "sample_tokens")
    needed(runner, "discard_request_mask")

    @functools.wraps(sample)
    def sample_tokens(*args: Any, **options: Any) -> Any:
        batch = runner.input_batch
        discarded = runner.discard_request_mask.np[: batch.num_reqs].nonzero()[0].tolist()
        held = {i: batch.generators.pop(i) for i in discarded if i in batch.generators}
        try:
            return sample(*args, **options)
        finally:
            batch.generators.update(held)

    runner.sample_tokens = sample_tokens
