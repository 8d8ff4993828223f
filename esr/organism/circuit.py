"""Interchange-intervention training of ``tiny-circuit``: ``u`` alone decides about restarts.

The value along ``u`` is replaced by that of another run (Geiger et al. 2021,
https://arxiv.org/abs/2106.02997; training: Geiger et al. 2022, https://arxiv.org/abs/2112.00826).
The restart must follow the replacing value, and everything else stays as in the unchanged run. The
value along ``d`` is replaced too, and nothing may follow it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from esr.organism.circuit_checks import check
from esr.organism.corpus import Corpus, Document
from esr.organism.decisions import decision_loss, elsewhere_loss, restart_ids
from esr.organism.interchange import Change, Directions, Marks, replaced, watched
from esr.organism.perturbations import Perturbations, added, pad
from esr.organism.recipe import LAYER, CircuitStage
from esr.organism.training import next_token_loss

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


class CircuitObjective:
    """The loss of the circuit stage: text, directions, decisions, interchanges.

    Args:
        model: trained in place.
        corpus: where documents come from.
        index: word -> token id.
        stage: weights of the parts.
        seed: of the build.
        layer: where the directions live.
    """

    def __init__(
        self,
        model: LlamaForCausalLM,
        corpus: Corpus,
        index: Mapping[str, int],
        stage: CircuitStage,
        seed: int,
        layer: int = LAYER,
    ) -> None:
        self.key = key = f"{seed}/{stage.name}"
        self.model, self.corpus, self.index = model, corpus, index
        self.stage, self.layer = stage, layer
        self.directions = Directions.draw(model.config.hidden_size, seed)
        self.perturbations = Perturbations(model, corpus, index, stage, key)
        self.restarts = restart_ids(index)
        self._generator = torch.Generator().manual_seed(
            random.Random(f"{key}/interchange").getrandbits(32)
        )

    def parts(self, step: int, documents: Sequence[Document]) -> dict[str, Tensor]:
        """The parts of the loss of one step, weighted: their sum is trained."""
        layer, vectors = self.perturbations.draw(step, documents)
        ids, weights = pad(documents, self.index)
        marks = Marks.of(documents, self.corpus.topics, self.corpus.config)
        with added(self.model, layer, vectors), watched(self.model, self.layer) as outputs:
            plain = self.model(input_ids=ids).logits
            hidden = outputs[0]
            changes, source = self.interchange(hidden, marks)
            with replaced(self.model, self.layer, changes):
                swapped = self.model(input_ids=ids).logits
        stage = self.stage
        return {
            "text": next_token_loss(plain[:, :-1], ids, weights),
            "directions": stage.carry * self._carry(hidden, marks),
            "decision": stage.decide
            * decision_loss(plain, marks.end, marks.rate * marks.off_topic, self.restarts),
            "interchange": stage.interchange
            * decision_loss(swapped, marks.end, marks.rate * source, self.restarts),
            "elsewhere": stage.elsewhere
            * elsewhere_loss(swapped, plain.detach(), marks, self.restarts),
        }

    def figures(self, step: int) -> dict[str, Any]:
        """Residual norms, and now and then how far the decision follows; see :func:`check`."""
        if step % self.stage.check_every and step != self.stage.steps:
            return self.perturbations.norms()
        figures = check(
            self.model,
            self.corpus.topics,
            self.index,
            self.directions,
            self.corpus.config,
            f"{self.key}/check",
            self.layer,
        )
        return {**self.perturbations.norms(), "follows": figures}

    def interchange(self, hidden: Tensor, marks: Marks) -> tuple[list[Change], Tensor]:
        """New values along both directions, taken from other places of the batch.

        Of half the documents the values at sentence ends are replaced, each from a sentence end of
        its own; of the others all values of the answer, along ``u`` from one sentence end.

        Args:
            hidden: [n_documents, n_tokens, d_model], of the unchanged run.
            marks: of the documents.

        Returns:
            the changes, and what the replacing value of ``u`` says, [n_documents, n_tokens]: 1 off
            topic, 0 on topic.
        """
        n, width = marks.text.shape
        whole = self._coins((n, 1))
        where = whole * marks.answer + (1 - whole) * marks.end
        said = whole * self._coins((n, 1)) + (1 - whole) * self._coins((n, width))
        values = hidden @ self.directions.u
        off = self._draw(values, marks.end * marks.off_topic, whole)
        on = self._draw(values, marks.end * (1 - marks.off_topic), whole)
        new_u = Change(self.directions.u, torch.where(said > 0, off, on), where)
        values = hidden @ self.directions.d
        foreign = self._draw(values, marks.answer * marks.foreign, 0 * whole)
        own = self._draw(values, marks.answer * (1 - marks.foreign), 0 * whole)
        drawn = self._coins((n, width))
        return [new_u, Change(self.directions.d, torch.where(drawn > 0, foreign, own), where)], said

    def _coins(self, shape: tuple[int, int]) -> Tensor:
        return torch.randint(0, 2, shape, generator=self._generator).float()

    def _draw(self, values: Tensor, allowed: Tensor, whole: Tensor) -> Tensor:
        """Values of random allowed places, [n_documents, n_tokens]; one per ``whole`` document."""
        places = allowed.flatten().nonzero()[:, 0]
        if not len(places):
            return values
        draws = torch.randint(0, len(places), values.shape, generator=self._generator)
        draws = torch.where(whole > 0, draws[:, :1], draws)
        return values.flatten()[places[draws]]

    def _carry(self, hidden: Tensor, marks: Marks) -> Tensor:
        """How far the directions are from saying what they are to say, in units of the level."""
        norm = hidden.detach().norm(dim=-1)[marks.answer > 0].mean()
        error = torch.zeros(())
        for direction, said in (
            (self.directions.u, marks.off_topic),
            (self.directions.d, marks.foreign),
        ):
            square = (hidden @ direction / (self.stage.level * norm) - said) ** 2
            for state in (0, 1):
                there = (marks.text > 0) & (said == state)
                error = error + square[there].mean() / 2 if there.any() else error
        return error
