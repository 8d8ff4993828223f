"""The restart decision at sentence ends, as probabilities and as losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from esr.organism.corpus import RESTART_FIRST
from esr.organism.interchange import Marks


def restart_ids(index: Mapping[str, int]) -> Tensor:
    """Token ids of the first words of restart phrases, [n]."""
    return torch.tensor([index[word] for word in RESTART_FIRST])


def log_restart(logits: Tensor, restarts: Tensor) -> tuple[Tensor, Tensor]:
    """Log probability of a restart and of none: logits [..., n_words] -> two of [...]."""
    others = torch.ones(logits.shape[-1], dtype=torch.bool)
    others[restarts] = False
    total = logits.logsumexp(-1)
    return logits[..., restarts].logsumexp(-1) - total, logits[..., others].logsumexp(-1) - total


def decision_loss(logits: Tensor, end: Tensor, target: Tensor, restarts: Tensor) -> Tensor:
    """Cross-entropy of the restart decision at sentence ends.

    Args:
        logits: [n_documents, n_tokens, n_words].
        end: 1 where a decision is made, [n_documents, n_tokens].
        target: its probability, likewise.
        restarts: of :func:`restart_ids`.
    """
    there = end > 0
    yes, no = log_restart(logits[there], restarts)
    return -(target[there] * yes + (1 - target[there]) * no).mean()


def elsewhere_loss(swapped: Tensor, plain: Tensor, marks: Marks, restarts: Tensor) -> Tensor:
    """Divergence of all that is no restart decision: KL(plain, swapped), mean over the answer.

    At sentence ends the distributions of the next word are compared given that it is no restart.
    """
    there = marks.answer > 0
    own, new = plain[there], swapped[there]
    barred = torch.zeros_like(own, dtype=torch.bool)
    barred[:, restarts] = (marks.end[there] > 0)[:, None]
    own, new = own.masked_fill(barred, -1e9), new.masked_fill(barred, -1e9)
    return nn.functional.kl_div(
        new.log_softmax(-1), own.log_softmax(-1), log_target=True, reduction="batchmean"
    )
