"""Two ways to run vLLM: in its own process (the default), or inside this one (small runs)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from esr.errors import EngineError

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs, RequestOutput, SamplingParams
    from vllm.config import VllmConfig


class Driver(Protocol):
    """What the engine needs of vLLM's front end."""

    config: VllmConfig
    """What vLLM has settled on."""

    async def run(
        self, prompt: Mapping[str, Any], sampling: SamplingParams, request_id: str
    ) -> RequestOutput:
        """Run one request to its end; aborted where the caller is cancelled."""
        ...

    async def call(self, method: str, *args: Any) -> list[Any]:
        """Call a method of every worker."""
        ...

    def shutdown(self) -> None:
        """Stop vLLM."""
        ...


class OwnProcess:
    """vLLM's asynchronous engine; the model runs in a process of its own."""

    def __init__(self, args: AsyncEngineArgs) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"
        from vllm.v1.engine.async_llm import AsyncLLM

        # Where the engine's process ends, that process has logged why; the front end would print
        # its own stack beside the one line that is raised.
        logging.getLogger("vllm.v1.engine.async_llm").setLevel(logging.CRITICAL)
        self._llm = AsyncLLM.from_engine_args(args)
        self.config = self._llm.vllm_config

    async def run(
        self, prompt: Mapping[str, Any], sampling: SamplingParams, request_id: str
    ) -> RequestOutput:
        final = None
        async for output in self._llm.generate(prompt, sampling, request_id):
            final = output
        if final is None:
            raise RuntimeError(f"vLLM returned nothing for request {request_id}")
        return final

    async def call(self, method: str, *args: Any) -> list[Any]:
        return list(await self._llm.collective_rpc(method, args=args))

    def shutdown(self) -> None:
        self._llm.shutdown()
        # Collected now: at the end of the interpreter its destructor would fail.
        del self._llm


class InProcess:
    """vLLM's synchronous engine, stepped by a task of the running event loop.

    Starts in seconds, but a step blocks the loop: for tests and small runs.
    """

    def __init__(self, args: AsyncEngineArgs) -> None:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        from vllm.v1.engine.llm_engine import LLMEngine

        self._llm = LLMEngine.from_engine_args(args)
        self.config = self._llm.vllm_config
        self._waiting: dict[str, asyncio.Future[RequestOutput]] = {}
        self._pump: asyncio.Task[None] | None = None

    async def run(
        self, prompt: Mapping[str, Any], sampling: SamplingParams, request_id: str
    ) -> RequestOutput:
        internal_id = self._llm.add_request(request_id, prompt, sampling)
        future = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._step_until_idle())
        try:
            return await future
        except asyncio.CancelledError:
            self._llm.abort_request([internal_id], internal=True)
            raise
        finally:
            self._waiting.pop(request_id, None)

    async def call(self, method: str, *args: Any) -> list[Any]:
        return list(self._llm.collective_rpc(method, args=args))

    def shutdown(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._llm.engine_core.shutdown()

    async def _step_until_idle(self) -> None:
        try:
            # One idle turn first, so that requests made together enter the same batch.
            await asyncio.sleep(0)
            while self._waiting and self._llm.has_unfinished_requests():
                for output in self._llm.step():
                    future = self._waiting.get(output.request_id)
                    if output.finished and future is not None and not future.done():
                        future.set_result(output)
                await asyncio.sleep(0)
        except Exception as error:
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(
                        EngineError(f"vLLM stopped: {type(error).__name__}: {error}")
                    )
