"""The arms: each generates a workload greedily and returns the tokens of every request.

Peers run static batches: as many requests as are in flight, all as long as the longest.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from benchmarks.overhead_arms import never_stopping
from benchmarks.peers import plan
from benchmarks.peers.workload import Workload
from esr.engine.base import GenerationRequest, Sampling
from esr.engine.options import VllmOptions
from esr.models import ModelSpec
from esr.steering.interventions import Boost
from esr.steering.sae import Dictionary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from esr.engine.vllm import VllmEngine

Tokens = list[list[int]]


class Arm(Protocol):
    """One way to generate."""

    version: str
    """Of the library, for the table."""

    def generate(self, work: Workload) -> Tokens:
        """The tokens of every request, exactly as many as it asked for."""
        ...


class Ours:
    """vLLM with our worker, every request with its own boost, or none."""

    def __init__(self, engine: VllmEngine, loop: asyncio.AbstractEventLoop, steered: bool) -> None:
        self.engine, self.loop, self.steered = engine, loop, steered
        self.version = f"vLLM {engine.describe()['version']}"

    def generate(self, work: Workload) -> Tokens:
        async def all_at_once() -> Tokens:
            answers = await asyncio.gather(*map(self.engine.generate, self._requests(work)))
            return [list(answer.token_ids) for answer in answers]

        return self.loop.run_until_complete(all_at_once())

    def _requests(self, work: Workload) -> list[GenerationRequest]:
        return [
            GenerationRequest(
                f"r{i}",
                work.prompts[i],
                (Boost(latent, work.value),) if self.steered else (),
                Sampling(temperature=0.0, max_tokens=work.lengths[i], repetition_penalty=1.0),
            )
            for i, latent in enumerate(work.latents)
        ]


def start_ours(spec: ModelSpec, dictionary: Dictionary, in_flight: int) -> VllmEngine:
    """An engine that does not stop at stop tokens, and computes on every core, as the peers do.

    By itself vLLM keeps one core of a machine without GPUs for its scheduler.
    """
    cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", cores)
    return never_stopping(spec, dictionary, VllmOptions(in_flight))


class HuggingFace:
    """``generate`` on a batch under a hook of three lines: the strongest simple peer.

    Args:
        model: loaded with its default attention.
        dictionary: whose decoder rows are added.
        layer: that steers.
        in_flight: size of a batch.
    """

    name = plan.HUGGING_FACE

    def __init__(self, model: Any, dictionary: Dictionary, layer: int, in_flight: int) -> None:
        self.model, self.dictionary, self.layer = model, dictionary, layer
        self.in_flight = in_flight
        package = plan.PACKAGES[self.name]
        self.version = f"{package} {importlib.metadata.version(package)}"

    def generate(self, work: Workload) -> Tokens:
        answers: Tokens = []
        for batch in work.batches(self.in_flight):
            ids = torch.tensor(batch.prompts, device=self.model.device)
            vectors = batch.vectors(self.dictionary, next(self.model.parameters()))
            with torch.inference_mode():
                output = self.batch(ids, vectors, max(batch.lengths))
            rows = output[:, ids.shape[1] :].tolist()
            answers += [row[:n] for row, n in zip(rows, batch.lengths, strict=True)]
        return answers

    def batch(self, ids: Tensor, vectors: Tensor, n: int) -> Tensor:
        """[b, prompt + n] of the prompts [b, prompt]; ``vectors``: [b, 1, d_model]."""
        with self.steered(vectors):
            output: Tensor = self.greedy(self.model.generate, ids, n)
        return output

    def steered(self, vectors: Tensor) -> AbstractContextManager[None]:
        """The hook, for as long as it lasts."""

        def hook(_module: Any, _args: Any, output: Any) -> Any:
            if isinstance(output, Tensor):
                return output + vectors
            return (output[0] + vectors, *output[1:])

        return _removed(self.model.model.layers[self.layer].register_forward_hook(hook))

    @staticmethod
    def greedy(generate: Callable[..., Any], ids: Tensor, n: int) -> Any:
        """Call ``generate`` so that it makes ``n`` tokens, whatever they are."""
        options = {"do_sample": False, "repetition_penalty": 1.0, "pad_token_id": 0}
        return generate(
            inputs=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=n,
            eos_token_id=None,
            **options,
        )


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


class SteeringVectors(HuggingFace):
    """steering-vectors' patch, with an operator that gives every row a vector of its own."""

    name = plan.STEERING_VECTORS

    def __init__(self, *args: Any) -> None:
        self.library = importlib.import_module("steering_vectors")
        super().__init__(*args)

    def steered(self, vectors: Tensor) -> AbstractContextManager[None]:
        nothing = torch.zeros(vectors.shape[-1])
        vector = self.library.SteeringVector({self.layer: nothing})
        patch: AbstractContextManager[None] = vector.apply(
            self.model, operator=lambda _stream, _vector: vectors
        )
        return patch


class Nnsight(HuggingFace):
    """nnsight: one trace for the batch, an edit of the layer's output in every step."""

    name = plan.NNSIGHT

    def __init__(self, *args: Any) -> None:
        library = importlib.import_module("nnsight")
        super().__init__(*args)
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.model.name_or_path)
        self.traced = library.TransformersModel(self.model, tokenizer=tokenizer)

    def batch(self, ids: Tensor, vectors: Tensor, n: int) -> Tensor:
        mask = torch.ones_like(ids)
        layer = self.traced.model.layers[self.layer]
        with self.traced.generate(
            {"input_ids": ids, "attention_mask": mask},
            max_new_tokens=n,
            do_sample=False,
            repetition_penalty=1.0,
            eos_token_id=None,
            pad_token_id=0,
        ) as tracer:
            for _step in tracer.iter[:n]:
                layer.output[:] = layer.output + vectors
            output = tracer.result.save()
        result: Tensor = output
        return result


class SaeLens(HuggingFace):
    """SAELens' ``HookedSAETransformer.generate`` with a hook on the residual stream."""

    name = plan.SAE_LENS

    def __init__(self, *args: Any) -> None:
        from benchmarks.peers.saelens import hooked

        super().__init__(*args)
        self.hooked = hooked(self.model)

    def batch(self, ids: Tensor, vectors: Tensor, n: int) -> Tensor:
        def steer(residual: Tensor, hook: Any) -> Tensor:
            del hook
            return residual + vectors

        name = f"blocks.{self.layer}.hook_resid_post"
        with self.hooked.hooks(fwd_hooks=[(name, steer)]):
            output: Tensor = self.hooked.generate(
                ids, max_new_tokens=n, do_sample=False, stop_at_eos=False, verbose=False
            )
        return output


PEERS: dict[str, type[HuggingFace]] = {
    plan.HUGGING_FACE: HuggingFace,
    plan.SAE_LENS: SaeLens,
    plan.STEERING_VECTORS: SteeringVectors,
    plan.NNSIGHT: Nnsight,
}
