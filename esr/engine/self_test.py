"""Before the first request: does this model, in this vLLM, take interventions as it should?

1. *Streams*: where the residual stream is in a layer's output is measured
   (:mod:`esr.steering.stream`).
2. *Null test*: several prompts in one batch, unsteered, boosted by 0 and boosted by a vector as
   long as the stream at every hooked layer, give the unsteered tokens wherever nothing was to be
   added, the same tokens as without steered requests beside them.
3. *Exact delta*: meanwhile the layers' outputs move by ``b * W_dec[k]`` at the boosted rows, and
   not at all at any other row.
4. *Rows*: on every rank, at every hooked layer, as many rows are steered as steered requests feed
   tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from esr.errors import UserError
from esr.steering.interventions import Boost, Intervention
from esr.steering.sae import Dictionary
from esr.steering.stream import ADDED, MOVED

N_PROMPTS, PROMPT_LENGTH, RESPONSE_LENGTH = 6, 8, 4

Prompt = tuple[int, ...]


@dataclass(frozen=True)
class SelfTest:
    """One test of one engine.

    Attributes:
        run: greedy tokens of a prompt under interventions, at most so many.
        call: a method of every worker, with one answer per rank.
        layers: those with a hook.
        by_request: False where requests may get each other's interventions on purpose
            (pairing "scheduler-order"); then only rows are counted.
        prompt_length: tokens of a prompt. What is measured in Python needs a step that no CUDA
            graph replays: one that is larger than the largest recorded.
    """

    run: Callable[[Prompt, Sequence[Intervention], int], Awaitable[Prompt]]
    call: Callable[..., Awaitable[list[Any]]]
    dictionary: Dictionary
    model: str
    dtype: torch.dtype
    vocabulary: int
    context: int
    layers: tuple[int, ...]
    by_request: bool
    prompt_length: int = PROMPT_LENGTH

    async def check(self) -> dict[int, str]:
        """Run all four; returns what each layer returns, see :mod:`esr.steering.stream`.

        Raises:
            UserError: the model fails one of them.
        """
        forms, norms = await self._measure_streams()
        latent, length = self._latent()
        null = tuple(Boost(latent, 0.0, layer) for layer in self.layers)
        boost = tuple(Boost(latent, norms[layer] / length, layer) for layer in self.layers)
        alone = await self._batch([()])
        if not self.by_request:
            await self._batch([null])
            return forms
        await self.call("esr_watch", True)
        tokens = await self._batch([(), boost, null])
        deviation = max(await self.call("esr_watch", False))
        if not deviation <= 2 * torch.finfo(self.dtype).eps:
            raise self._refusal(f"a boost moves the stream by something else (off {deviation:.2g})")
        # In half precision a row may round otherwise in another batch, which can change a token.
        allowed = 0 if self.dtype == torch.float32 else N_PROMPTS // 3
        for name, kind in (("an unsteered request beside steered ones", 0), ("a boost of 0", 2)):
            changed = sum(a != b for a, b in zip(alone[0], tokens[kind], strict=True))
            if changed > allowed:
                raise self._refusal(f"{name} changes {changed} of {N_PROMPTS} greedy answers")
        return forms

    async def _measure_streams(self) -> tuple[dict[int, str], dict[int, float]]:
        """What the layers return, and the length of the stream there."""
        passes = [("", -1)] + [(name, i) for i in set(self.layers) for name in (MOVED, ADDED)]
        for disturbance, layer in passes:
            await self.call("esr_probe", disturbance, layer)
            await self.run(self._prompt(0), (), 1)
        answers = await self.call("esr_end_probe")
        for _, _, problem in answers:
            if problem:
                raise self._refusal(problem)
        forms, norms, _ = answers[0]
        return forms, norms

    async def _batch(self, kinds: Sequence[Sequence[Intervention]]) -> list[list[Prompt]]:
        """Every prompt under every kind, all at once: tokens by kind and prompt. Counts rows."""
        before = await self.call("esr_counters")
        runs = [
            self.run(self._prompt(i), kind, RESPONSE_LENGTH)
            for i in range(N_PROMPTS)
            for kind in kinds
        ]
        answers = await asyncio.gather(*runs)
        after = await self.call("esr_counters")
        by_kind = [list(answers[i :: len(kinds)]) for i in range(len(kinds))]
        expected = len(self.layers) * sum(
            len(self._prompt(i)) + len(tokens[i]) - 1
            for kind, tokens in zip(kinds, by_kind, strict=True)
            for i in range(N_PROMPTS)
            if kind
        )
        rows = [b["steered_rows"] - a["steered_rows"] for a, b in zip(before, after, strict=True)]
        if any(n != expected for n in rows):
            raise self._refusal(f"{rows} rows were steered, not {expected}")
        return by_kind

    def _prompt(self, i: int) -> Prompt:
        length = min(self.prompt_length, self.context - RESPONSE_LENGTH)
        return tuple((3 + 17 * j + 5 * i) % min(self.vocabulary, 1000) for j in range(length))

    def _latent(self) -> tuple[int, float]:
        """A latent with a decoder row that is not 0, and that row's length."""
        norms = self.dictionary.bank(range(min(64, self.dictionary.d_sae))).decoder.norm(dim=1)
        return int(norms.argmax()), float(norms.max())

    def _refusal(self, problem: str) -> UserError:
        return UserError(
            f"{self.model} cannot be steered in this vLLM: {problem}",
            "the models of docs/models.md",
            "--engine transformers, or another model",
        )
