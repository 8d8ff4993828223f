"""vLLM as it comes, without our worker: what an engine costs in which nobody is steered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from esr.engine.base import Generation, GenerationRequest
from esr.engine.options import VllmOptions
from esr.engine.validation import model_info
from esr.engine.vllm_config import engine_args
from esr.engine.vllm_driver import OwnProcess
from esr.models import ModelSpec
from esr.steering.sae import Dictionary

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs


def stock_args(
    spec: ModelSpec, dictionary: Dictionary, options: VllmOptions, *, own_graphs: bool = False
) -> AsyncEngineArgs:
    """The arguments of our engine, with vLLM's own worker.

    Args:
        spec: the model.
        dictionary: of our engine.
        options: of our engine.
        own_graphs: CUDA graphs as vLLM takes them by default, not those our hook allows.
    """
    args = engine_args(spec, model_info(spec, dictionary), dictionary, options)
    args.worker_cls = "auto"
    args.additional_config = {}
    if own_graphs:
        from vllm.config import CompilationConfig

        args.compilation_config = CompilationConfig()
    return args


class StockVllm:
    """Generates unsteered requests; to be started after one of our engines, which sets vLLM's
    environment."""

    def __init__(
        self,
        spec: ModelSpec,
        dictionary: Dictionary,
        options: VllmOptions,
        *,
        own_graphs: bool = False,
    ) -> None:
        self._driver = OwnProcess(stock_args(spec, dictionary, options, own_graphs=own_graphs))

    async def generate(self, request: GenerationRequest) -> Generation:
        """One response; nothing stops it before its cap."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        assert not request.interventions
        sampling = request.sampling
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        prompt: dict[str, Any] = {"prompt_token_ids": list(request.prompt_token_ids)}
        output = (await self._driver.run(prompt, params, request.request_id)).outputs[0]
        return Generation(request.request_id, tuple(output.token_ids), "", "length")

    def close(self) -> None:
        """Stop vLLM."""
        self._driver.shutdown()
