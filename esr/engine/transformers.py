"""The reference engine: Hugging Face, one request at a time, one hook. Slow and obvious."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module

from esr.engine.base import (
    CLOSED,
    Generation,
    GenerationRequest,
    Reading,
    ReadRequest,
    Sampling,
)
from esr.engine.validation import GREEDY_BELOW, check_generation, check_read, model_info
from esr.errors import EngineError
from esr.models import ModelSpec
from esr.models.weights import load_weights
from esr.steering.interventions import Row, rows_of
from esr.steering.layers import decoder_layers, residual_of, with_residual
from esr.steering.pooling import Pool, add_rows
from esr.steering.reads import states_of
from esr.steering.row_cache import load
from esr.steering.rows import SaeRows, steer
from esr.steering.sae import Dictionary
from esr.steering.task import Effect, ReadTask, effects

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class TransformersEngine:
    """Hugging Face's forward pass with a hook at every layer that a request steers.

    Sampled tokens differ from vLLM's for the same seed, because the random draws do; greedy
    tokens agree.

    Raises:
        UserError: the model does not load, does not fit the dictionary, or lacks a layer.
    """

    def __init__(self, spec: ModelSpec, dictionary: Dictionary, layers: Sequence[int] = ()) -> None:
        self.spec = spec
        self.dictionary = dictionary
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.info = model_info(spec, dictionary, layers)
        self.model = load_weights(spec, self.device)
        self.layers = decoder_layers(self.model, self.info.n_layers)
        self._one_at_a_time = asyncio.Lock()
        self._closed = False

    async def generate(self, request: GenerationRequest) -> Generation:
        """See :meth:`esr.engine.base.Engine.generate`."""
        check_generation(request, self.info)
        return await self._alone(self._generate, request)

    async def read(self, request: ReadRequest) -> Reading:
        """See :meth:`esr.engine.base.Engine.read`."""
        check_read(request, self.info)
        return await self._alone(self._read, request)

    def describe(self) -> dict[str, object]:
        """For ``run.json``."""
        import transformers

        return {
            "engine": "transformers",
            "version": transformers.__version__,
            "torch": torch.__version__,
            "dtype": self.spec.dtype,
            "device": str(self.device),
            "pairing": "request-id",
            "steering_layer": self.spec.steering_layer,
            "feature_layer": self.spec.feature_layer,
            "context": self.info.context,
            "dictionary": self.dictionary.digest,
        }

    async def close(self) -> None:
        """Free the model, once the request at work is done; those that wait get an EngineError."""
        if self._closed:
            return
        self._closed = True
        async with self._one_at_a_time:
            del self.model, self.layers
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    async def _alone(self, answer: Callable[[Request], Answer], request: Request) -> Answer:
        async with self._one_at_a_time:
            if self._closed:
                raise EngineError(CLOSED)
            return await asyncio.to_thread(answer, request)

    @torch.inference_mode()
    def _generate(self, request: GenerationRequest) -> Generation:
        sampling = request.sampling
        generator = torch.Generator("cpu").manual_seed(sampling.seed)
        prefix = request.prefix_token_ids
        tokens = [*request.prompt_token_ids, *prefix]
        n_prompt = len(request.prompt_token_ids)
        steered = effects(
            request.interventions, self.spec.steering_layer, n_prompt, len(prefix), request.scope
        )
        new = torch.tensor([tokens], device=self.device)
        cache: Any = None
        finish = "length"
        with self._steered(steered):
            for _ in range(sampling.max_tokens):
                output = self.model(
                    input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
                cache = output.past_key_values
                logits = output.logits[0, -1].float().cpu()
                tokens.append(draw(logits, torch.tensor(tokens), sampling, generator))
                if tokens[-1] in self.info.stop_token_ids:
                    finish = "stop"
                    break
                new = torch.tensor([tokens[-1:]], device=self.device)
        return self.info.answer(request, tokens[n_prompt + len(prefix) :], finish)

    @torch.inference_mode()
    def _read(self, request: ReadRequest) -> Reading:
        streams: list[Tensor] = []

        def capture(_module: Module, _args: object, output: Any) -> None:
            streams.append(residual_of(output)[0])

        ids = torch.tensor([request.token_ids], device=self.device)
        n_prompt, layer = request.n_prompt or 0, self.spec.steering_layer
        steered = effects(request.interventions, layer, n_prompt, request.n_prefix)
        read_at = self.spec.feature_layer if request.layer is None else request.layer
        with self._steered(steered):
            # Registered after the steering hook, so it sees the steered stream of its layer.
            handle = self.layers[read_at].register_forward_hook(capture)
            try:
                last = 0 if request.logprobs else 1  # 0 keeps all positions.
                output = self.model(input_ids=ids, use_cache=False, logits_to_keep=last)
            finally:
                handle.remove()
        if request.logprobs:
            values = logprobs(output.logits[0], ids[0], request.first_token)
            return Reading(request.request_id, logprobs=values.cpu())
        residual = streams[0][request.first_token :]
        if request.states:
            task = ReadTask(None, request.first_token, len(request.token_ids), request.states)
            return Reading(request.request_id, states=states_of(task, residual).cpu())
        if request.latents is not None:
            bank = self.dictionary.bank(request.latents).to(self.device)
            return Reading(request.request_id, values=bank.encode(residual).cpu())
        pool = Pool(self.dictionary.d_sae, self.device)
        add_rows(self.dictionary, [(pool, residual)])
        return Reading(request.request_id, pooled=pool.result())

    @contextmanager
    def _steered(self, steered: Sequence[Effect]) -> Iterator[None]:
        """Steer every forward pass inside: passes over one text, piece by piece."""
        rows = rows_of(item.slot for item in steered)
        bank = load(self.dictionary, rows).to(self.device) if rows else None
        place = {row: i for i, row in enumerate(rows)}
        handles = []
        for layer in sorted({item.layer for item in steered}):
            here = [item for item in steered if item.layer == layer]
            assert bank is not None
            hook = _SteeringHook(here, place, bank)
            handles.append(self.layers[layer].register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _SteeringHook:
    """Steers the output of one layer, effect by effect, position by position."""

    def __init__(self, steered: Sequence[Effect], place: dict[Row, int], bank: SaeRows) -> None:
        self.steered, self.place, self.bank = steered, place, bank
        self.position = 0

    def __call__(self, _module: Module, _args: object, output: Any) -> Any:
        stream = residual_of(output)
        first, n = self.position, stream.shape[1]
        self.position += n
        changed = stream.clone()
        # Slots that begin and end together, for the positions of this piece that they have.
        edges = {0, n} | {e - first for item in self.steered for e in (item.start, item.end)}
        inside = sorted(edge for edge in edges if 0 <= edge <= n)
        for start, end in pairwise(inside):
            slots = [
                (
                    item.slot,
                    self.place[item.slot.write],
                    self.place[item.slot.read or item.slot.write],
                )
                for item in self.steered
                if item.start <= first + start and first + end <= item.end
            ]
            if slots:
                changed[0, start:end] = steer(stream[0, start:end], slots, self.bank)
        return with_residual(output, changed)


def logprobs(logits: Tensor, tokens: Tensor, first: int) -> Tensor:
    """Log-probability of each token given those before it: [n_tokens - first] float32.

    Args:
        logits: [n_tokens, vocabulary] of the whole text.
        tokens: [n_tokens] int64.
        first: first token of interest, at least 1.
    """
    before = logits[first - 1 : -1].float().log_softmax(-1)
    return before.gather(1, tokens[first:, None])[:, 0]


def draw(logits: Tensor, seen: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token by the rules of vLLM's sampler: penalty, temperature, top-p, one draw.

    Args:
        logits: [vocabulary] float32; not modified.
        seen: [n_tokens] int64, prompt and response so far: what the penalty counts.
        sampling: of the request.
        generator: the request's own, seeded once.
    """
    logits = penalise(logits, seen, sampling.repetition_penalty)
    if sampling.temperature < GREEDY_BELOW:
        return int(logits.argmax())
    probabilities = nucleus(logits / sampling.temperature, sampling.top_p)
    return int(torch.multinomial(probabilities, 1, generator=generator))


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of ``seen`` tokens by ``penalty``."""
    chosen = logits[seen]
    scaled = torch.where(chosen > 0, chosen / penalty, chosen * penalty)
    return logits.scatter(0, seen, scaled)


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Probabilities with all but the smallest set of mass ``top_p`` set to 0: [vocabulary]."""
    probabilities = logits.softmax(-1)
    if top_p >= 1:
        return probabilities
    ordered, index = probabilities.sort(descending=False)
    outside = ordered.cumsum(-1) <= 1 - top_p
    outside[-1] = False
    probabilities = probabilities.scatter(0, index, ordered.masked_fill(outside, 0.0))
    return probabilities / probabilities.sum()
