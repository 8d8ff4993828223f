"""The reference engine: Hugging Face, one request at a time, one hook. Slow and obvious."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

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
from esr.steering.in_play import load
from esr.steering.interventions import Intervention, Row, Slot, rows_of, slot_of
from esr.steering.layers import decoder_layers, residual_of, with_residual
from esr.steering.pooling import Pool, add_rows
from esr.steering.reads import states_of
from esr.steering.rows import SaeRows, activate
from esr.steering.sae import Dictionary
from esr.steering.scope import Scope, positions
from esr.steering.task import ReadTask

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
        new = torch.tensor([tokens], device=self.device)
        cache: Any = None
        finish = "length"
        with self._steered(request.interventions, n_prompt, len(prefix), request.scope):
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
        read_at = self.spec.feature_layer if request.layer is None else request.layer
        with self._steered(request.interventions, request.n_prompt or 0, request.n_prefix):
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
    def _steered(
        self,
        items: Sequence[Intervention],
        n_prompt: int,
        n_prefix: int,
        scope: Scope = "all",
    ) -> Iterator[None]:
        """Steer every forward pass inside: passes over one text, piece by piece."""
        rows = rows_of(items)
        bank = load(self.dictionary, rows).to(self.device) if rows else None
        handles = []
        for number, module in enumerate(self.layers):
            here = [
                Placed(slot_of(item), positions(item.scope, n_prompt, n_prefix))
                for item in items
                if (self.spec.steering_layer if item.layer is None else item.layer) == number
            ]
            if here and bank is not None:
                inside = positions(scope, n_prompt, n_prefix)
                hook = SteeringHook(here, inside, rows, bank)
                handles.append(module.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class Placed(NamedTuple):
    """A slot, and where it acts: first position, one past the last."""

    slot: Slot
    span: tuple[int, int]


class SteeringHook:
    """Steers the output of one layer, slot by slot.

    Args:
        slots: of the layer.
        inside: first position that may be steered at all, and one past the last.
        rows: what the lines of ``bank`` are.
        bank: without input bias.
    """

    def __init__(
        self,
        slots: Sequence[Placed],
        inside: tuple[int, int],
        rows: Sequence[Row],
        bank: SaeRows,
    ) -> None:
        self.slots, self.inside, self.bank = slots, inside, bank
        self.line = {row: i for i, row in enumerate(rows)}
        self.position = 0

    def __call__(self, _module: Module, _args: object, output: Any) -> Any:
        stream = residual_of(output)
        first, last = self.position, self.position + stream.shape[1]
        self.position = last
        change = torch.zeros_like(stream, dtype=torch.float32)
        for slot, span in self.slots:
            start = max(first, span[0], self.inside[0]) - first
            end = min(last, span[1], self.inside[1]) - first
            if start < end:
                change[0, start:end] += self.change(stream[0, start:end], slot)
        return with_residual(output, (stream.float() + change).to(stream.dtype))

    def change(self, stream: Tensor, slot: Slot) -> Tensor:
        """What a slot adds to every row: [n_rows, d_model] float32."""
        bank = self.bank
        coefficient = torch.full_like(stream[:, 0], slot.boost + slot.target, dtype=torch.float32)
        if slot.read is not None:
            line = self.line[slot.read]
            pre = stream.float() @ bank.encoder[line] + bank.encoder_bias[line]
            p = activate(pre, bank.threshold[line])
            coefficient = (coefficient + slot.gain * p) * ((p >= slot.low) & (p < slot.high))
        return coefficient[:, None] * bank.decoder[self.line[slot.write]]


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
