"""Steered generation and reads on stock vLLM: the client side.

Requests are checked here, before they are sent: an error inside a worker would end the engine
for every request. What a request asks of the worker travels in its sampling parameters.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from esr.engine.admission import RowBudget
from esr.engine.base import (
    CLOSED,
    Generation,
    GenerationRequest,
    Reading,
    ReadRequest,
    Sampling,
)
from esr.engine.log import new_log, root_cause
from esr.engine.self_test import PROMPT_LENGTH, SelfTest
from esr.engine.validation import check_generation, check_graph, check_read, model_info
from esr.engine.vllm_config import VllmOptions, compiles, graph_lines, in_graph, on_cpu, start
from esr.errors import EngineError, UserError
from esr.models import ModelSpec
from esr.steering.effects import Effects
from esr.steering.interventions import Intervention
from esr.steering.limits import GRAPH_ROWS, KEEP
from esr.steering.pooling import PooledReading
from esr.steering.sae import Dictionary
from esr.steering.scope import Scope
from esr.steering.task import CONFIG_KEY, ReadTask, Task

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput

T = TypeVar("T")

_ONE = Sampling(temperature=0.0, max_tokens=1, repetition_penalty=1.0)
"""What a read asks for: vLLM generates at least one token."""


class VllmEngine:
    """Continuous batching with interventions per request.

    Raises:
        UserError: the model does not load or fit, or a layer does not exist.
    """

    def __init__(
        self, spec: ModelSpec, dictionary: Dictionary, options: VllmOptions | None = None
    ) -> None:
        self.spec = spec
        self.dictionary = dictionary
        self.options = options or VllmOptions()
        self.info = model_info(spec, dictionary, self.options.layers)
        self._numbers = itertools.count()
        self._in_graph = in_graph(self.options)
        self._budget = RowBudget(
            GRAPH_ROWS if self._in_graph else KEEP,
            graph_lines(self.options) if self._in_graph else None,
        )
        self._tested = self._closed = self._keep_log = False
        self._streams: dict[int, str] = {}
        self._refused: UserError | None = None
        self._running: set[asyncio.Future[Any]] = set()
        self._testing = asyncio.Lock()
        self._log = new_log()
        self._driver = start(spec, self.info, dictionary, self.options, self._log)

    async def generate(self, request: GenerationRequest) -> Generation:
        """See :meth:`esr.engine.base.Engine.generate`."""
        check_generation(request, self.info)
        await self._self_test()
        prefix = request.prefix_token_ids
        n_prompt = len(request.prompt_token_ids)
        effects = self._effects(request.interventions, n_prompt, len(prefix), request.scope)
        task = Task(self._key(request.request_id), effects)
        given = request.prompt_token_ids + prefix
        output = await self._run(given, task, _salt(effects), request.sampling)
        if output.finish_reason not in ("stop", "length"):
            raise RuntimeError(f"request {request.request_id} ended as {output.finish_reason!r}")
        answer = self.info.answer(request, output.token_ids, output.finish_reason)
        if self.options.pairing == "request-id":
            return answer
        return replace(answer, pairing=(await self._call("esr_pairing", task.key))[0])

    async def _logprobs(self, request: ReadRequest) -> Reading:
        task = Task(self._key(request.request_id), self._read_effects(request))
        output = await self._request(request.token_ids, task, _salt(task.effects), _ONE, 0)
        values = [
            entry[token].logprob
            for token, entry in list(zip(request.token_ids, output.prompt_logprobs, strict=True))[
                request.first_token :
            ]
        ]
        return Reading(request.request_id, logprobs=torch.tensor(values, dtype=torch.float32))

    async def read(self, request: ReadRequest) -> Reading:
        """See :meth:`esr.engine.base.Engine.read`."""
        check_read(request, self.info)
        await self._self_test()
        if request.logprobs:
            return await self._logprobs(request)
        key = self._key(request.request_id)
        n_tokens = len(request.token_ids)
        read = ReadTask(
            request.latents, request.first_token, n_tokens, request.states, request.layer
        )
        task = Task(key, self._read_effects(request), read)
        try:
            # Its own salt: cached positions would not be computed, so they could not be read.
            await self._run(request.token_ids, task, f"read {key}", _ONE)
        finally:
            # Also after a failure or a cancellation: the worker must not keep the reading.
            answers = await self._call("esr_take", key)
        answer = next((item for item in answers if item is not None), None)
        if answer is None or answer["problem"]:
            problem = answer["problem"] if answer else "missing"
            raise RuntimeError(f"the reading of request {request.request_id} is {problem}")
        tensors = [_tensor(item) for item in answer["tensors"]]
        if request.latents is not None:
            return Reading(request.request_id, values=tensors[0])
        if request.states:
            return Reading(request.request_id, states=tensors[0])
        maximum, mean, frequency = tensors
        pooled = PooledReading(maximum, mean, frequency, n_tokens - request.first_token)
        return Reading(request.request_id, pooled=pooled)

    def describe(self) -> dict[str, object]:
        """For ``run.json``."""
        import vllm

        config = self._driver.config
        return {
            "engine": "vllm",
            "version": vllm.__version__,
            "torch": torch.__version__,
            "runner": "v2" if config.use_v2_model_runner else "v1",
            "dtype": self.spec.dtype,
            "quantization": self.spec.quantization,
            "device": "cpu" if on_cpu() else torch.cuda.get_device_name(),
            "tensor_parallel": self.options.tensor_parallel,
            "pairing": self.options.pairing,
            "compiled": compiles(self.options),
            "in_graph": self._in_graph,
            "prefix_caching": config.cache_config.enable_prefix_caching,
            "max_in_flight": self.options.max_in_flight,
            "steering_layer": self.spec.steering_layer,
            "feature_layer": self.spec.feature_layer,
            "context": self.info.context,
            "dictionary": self.dictionary.digest,
        }

    async def counters(self) -> dict[str, int]:
        """Rows steered and plans built since the start, on the first rank."""
        await self._self_test()
        counts: dict[str, int] = (await self._call("esr_counters"))[0]
        return counts

    async def streams(self) -> tuple[str, str]:
        """The class of vLLM that runs the model, and what its steering layer returns."""
        await self._self_test()
        name: str = (await self._call("esr_model"))[0]
        return name, self._streams[self.spec.steering_layer]

    async def close(self) -> None:
        """Stop vLLM and free its memory; requests still in flight get an EngineError."""
        if self._closed:
            return
        self._closed = True
        for answer in self._running:
            answer.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._driver.shutdown()
        if not self._keep_log:
            self._log.unlink(missing_ok=True)

    async def _run(
        self, token_ids: tuple[int, ...], task: Task, salt: str | None, sampling: Sampling
    ) -> CompletionOutput:
        return (await self._request(token_ids, task, salt, sampling)).outputs[0]

    async def _request(
        self,
        token_ids: tuple[int, ...],
        task: Task,
        salt: str | None,
        sampling: Sampling,
        prompt_logprobs: int | None = None,
    ) -> RequestOutput:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        prompt: dict[str, Any] = {"prompt_token_ids": list(token_ids)}
        if salt is not None:
            prompt["cache_salt"] = salt
        needs_worker = bool(len(task.effects) or task.read)
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            stop_token_ids=list(self.info.stop_token_ids),
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
            # 0: of the token itself alone. Cached positions are then computed once more.
            prompt_logprobs=prompt_logprobs,
            extra_args={CONFIG_KEY: task.to_wire()} if needs_worker else None,
        )
        try:
            async with self._budget.hold(task.effects.rows[0], task.effects.n_phases):
                output = await self._alive(lambda: self._driver.run(prompt, params, task.key))
        except ValueError as error:
            raise UserError(f"vLLM refuses request {task.key}: {error}") from error
        return output

    async def _call(self, method: str, *args: Any) -> list[Any]:
        return await self._alive(lambda: self._driver.call(method, *args))

    async def _alive(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What vLLM answers, or an EngineError where it has ended or ends meanwhile."""
        from vllm.v1.engine.exceptions import EngineDeadError

        if self._closed:
            raise EngineError(CLOSED)
        answer = asyncio.ensure_future(ask())
        self._running.add(answer)
        try:
            return await answer
        except EngineDeadError as error:
            cause = root_cause(self._log) or "its process was ended from outside"
            self._keep_log = True
            raise EngineError(f"vLLM stopped: {cause}; see {self._log}") from error
        except asyncio.CancelledError as error:
            if self._closed:
                raise EngineError(CLOSED) from error
            raise
        finally:
            self._running.discard(answer)

    def _effects(
        self,
        items: Sequence[Intervention],
        n_prompt: int,
        n_prefix: int = 0,
        scope: Scope = "all",
    ) -> Effects:
        effects = Effects.of(items, self.spec.steering_layer, n_prompt, n_prefix, scope)
        if self._in_graph:
            check_graph(effects)
        return effects

    def _read_effects(self, request: ReadRequest) -> Effects:
        return self._effects(request.interventions, request.n_prompt or 0, request.n_prefix)

    def _key(self, request_id: str) -> str:
        return f"{request_id}#{next(self._numbers)}"

    async def _self_test(self) -> None:
        """Once, before the first request; a model that fails is refused every time."""
        async with self._testing:
            if self._refused is not None:
                raise self._refused
            if self._tested:
                return
            test = SelfTest(
                run=self._run_test,
                call=self._call,
                dictionary=self.dictionary,
                model=self.spec.key,
                dtype=getattr(torch, self.spec.dtype),
                vocabulary=self.info.vocabulary,
                context=self.info.context,
                layers=self.info.layers,
                by_request=self.options.pairing == "request-id",
                prompt_length=max(PROMPT_LENGTH, 1 + self._largest_graph()),
            )
            try:
                self._streams = await test.check()
            except UserError as error:
                self._refused = error
                raise
            self._tested = True

    def _largest_graph(self) -> int:
        """Most rows of a step that a CUDA graph replays."""
        if on_cpu() or not self._in_graph:
            return 0
        return self._driver.config.compilation_config.max_cudagraph_capture_size or 0

    async def _run_test(
        self, prompt: tuple[int, ...], steered: Sequence[Intervention], n: int
    ) -> tuple[int, ...]:
        task = Task(self._key("test"), self._effects(steered, len(prompt)))
        sampling = Sampling(temperature=0.0, max_tokens=n, repetition_penalty=1.0)
        return tuple((await self._run(prompt, task, task.key, sampling)).token_ids)


def _salt(effects: Effects) -> str | None:
    """Requests share cached tokens only where this agrees: the same effects at the same layers
    and positions; None where nothing is changed."""
    return effects.content if len(effects) else None


def _tensor(item: Mapping[str, Any]) -> Tensor:
    values = np.frombuffer(item["data"], dtype=np.float32).reshape(item["shape"])
    return torch.from_numpy(values.copy())
