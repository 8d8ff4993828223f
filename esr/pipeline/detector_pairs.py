"""Reading matched and mismatched pairs: what the criteria for off-topic detectors rest on (2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np

from esr.analysis.detectors import Pairs
from esr.engine.base import ReadRequest
from esr.errors import UserError
from esr.models.prompts import Prompt
from esr.pipeline.context import RunContext
from esr.pipeline.latents import pooled
from esr.pipeline.reads import ReadRecord, run_reads
from esr.pipeline.schema import TrialRecord


@dataclass(frozen=True)
class ReadPairs:
    """Pairs as read.

    Attributes:
        pairs: of the responses whose every pair could be read.
        responses: how many those are.
        left_out: how many could not be.
    """

    pairs: Pairs
    responses: int
    left_out: int


async def read_pairs(
    context: RunContext, records: Sequence[TrialRecord], pairing: Sequence[tuple[int, int, bool]]
) -> ReadPairs:
    """Feed each pair as a chat and pool the latents over it.

    Args:
        context: of the run.
        records: unsteered responses, prompt by prompt (:func:`esr.pipeline.latents.unsteered`).
        pairing: of :func:`esr.analysis.detectors.pairing`; the pairs of a response together.

    Raises:
        UserError: no response could be read.
    """
    questions = context.prompts.prompts
    requests = [
        _request(context, questions[prompt], records[response], matched)
        for response, prompt, matched in pairing
    ]
    read = await run_reads(requests, context, description="pairs")
    size = len(pairing) // len(records)
    starts = range(0, len(read), size)
    groups = [read[start : start + size] for start in starts]
    complete = [all(record.reading for record in group) for group in groups]
    whole = list(compress(groups, complete))
    if not whole:
        raise UserError(
            f"none of {len(groups)} responses could be read: {read[0].error}",
            "texts within the context of the model",
            "shorten the prompts",
        )
    maxima = np.array([[_maximum(record) for record in group] for group in whole])
    # Each round of responses has matched pairs of its own with every prompt.
    rounds = len(records) // len(questions)
    prompts = np.array([prompt + len(questions) * (r % rounds) for r, prompt, _ in pairing])
    of_whole = prompts.reshape(len(groups), size)[complete]
    pairs = Pairs.by_response(maxima, of_whole)
    return ReadPairs(pairs, len(whole), len(groups) - len(whole))


def _request(
    context: RunContext, prompt: Prompt, record: TrialRecord, matched: bool
) -> ReadRequest:
    kind = "matched" if matched else "mismatched"
    return ReadRequest(
        f"{kind}/{prompt.id}/{record.spec.trial_id}",
        context.chat.conversation_ids(prompt.text, record.response or ""),
    )


def _maximum(record: ReadRecord) -> np.ndarray:
    """Largest activation of every latent over a chat: [d_sae]."""
    return pooled(record.reading.pooled if record.reading else None).maximum.numpy()
