"""Nine mixes of self-corrections and normal responses, and what is in them.

Validation is on prompts of its own: a few prompts are set apart once per data set, for every mix
alike, and no example of theirs is trained on in any of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from esr.errors import UserError
from esr.models.chat import ChatFormat
from esr.runs import seeds
from experiment_04_finetuning.examples import Example, share
from experiment_04_finetuning.masking import Encoded, encode
from experiment_04_finetuning.settings import DataSettings


@dataclass(frozen=True)
class Mix:
    """One training set.

    Attributes:
        percent: self-corrections among the examples, in per cent.
        train: examples to train on.
        validation: examples of the prompts set apart, held out.
    """

    percent: int
    train: tuple[Example, ...]
    validation: tuple[Example, ...]

    @property
    def examples(self) -> tuple[Example, ...]:
        """Both parts."""
        return self.train + self.validation


def mix(pool: Sequence[Example], percent: int, settings: DataSettings, seed: int) -> Mix:
    """The mix with ``percent`` self-corrections.

    Examples are taken in one seeded order per kind, so that a larger share holds the smaller
    ones' self-corrections: two mixes differ in no more than they must. Where a pool is short,
    the mix is smaller and its share stays exact, in both parts.
    """
    apart = validation_prompts(pool, settings, seed)
    training = [example for example in pool if example.item.prompt_id not in apart]
    validating = [example for example in pool if example.item.prompt_id in apart]
    size = settings.examples
    while size:
        n_validating = round(size * settings.validation)
        train = _part(training, size - n_validating, percent, seed)
        validation = _part(validating, n_validating, percent, seed)
        if train is not None and validation is not None:
            return Mix(percent, train, validation)
        size -= 1
    return Mix(percent, (), ())


def validation_prompts(
    pool: Sequence[Example], settings: DataSettings, seed: int
) -> frozenset[str]:
    """Ids of the prompts that no mix trains on: the share of ``settings.validation``, at least one.

    Raises:
        UserError: there is but one prompt.
    """
    ids = sorted({example.item.prompt_id for example in pool})
    if not settings.validation or not ids:
        return frozenset()
    if len(ids) == 1:
        raise UserError(
            "one prompt cannot be trained on and validated on",
            "two prompts or more, or no validation",
            "--validation 0",
        )
    order = seeds.generator(seed, "validation prompts").permutation(len(ids))
    n = max(1, round(len(ids) * settings.validation))
    return frozenset(ids[int(index)] for index in order[:n])


def _part(
    pool: Sequence[Example], size: int, percent: int, seed: int
) -> tuple[Example, ...] | None:
    """``size`` examples at the share of the mix, shuffled; None where the pool is too short."""
    corrections, normals = (_ordered(pool, kind, seed) for kind in ("self_correction", "normal"))
    wanted = share(size, percent)
    if wanted > len(corrections) or size - wanted > len(normals):
        return None
    chosen = corrections[:wanted] + normals[: size - wanted]
    order = seeds.generator(seed, "order of a mix", percent).permutation(size)
    return tuple(chosen[int(index)] for index in order)


def _ordered(pool: Sequence[Example], kind: str, seed: int) -> list[Example]:
    chosen = [example for example in pool if example.item.kind == kind]
    order = seeds.generator(seed, "order of a pool", kind).permutation(len(chosen))
    return [chosen[int(index)] for index in order]


def describe(mix: Mix, chat: ChatFormat, max_length: int) -> dict[str, Any]:
    """Counts, masked shares and lengths of a mix, in the tokens of one model."""
    encoded = [(example, encode(example, chat, max_length)) for example in mix.examples]
    kinds = {
        kind: _figures([e for example, e in encoded if example.item.kind == kind])
        for kind in ("self_correction", "normal")
    }
    return {
        "percent": mix.percent,
        "train": len(mix.train),
        "validation": len(mix.validation),
        **_figures([e for _, e in encoded]),
        "kinds": kinds,
    }


def _figures(encoded: Sequence[Encoded]) -> dict[str, Any]:
    """Of a set of examples: how many, how long, and which share of tokens has no loss."""
    lengths = [len(e.ids) for e in encoded]
    if not encoded:
        return {"examples": 0}
    total, trained = sum(lengths), sum(e.n_trained for e in encoded)
    prompt = sum(e.n_prompt for e in encoded)
    return {
        "examples": len(encoded),
        "tokens": total,
        "trained_tokens": trained,
        "masked_share": round(1 - trained / total, 4),
        "masked_share_of_response": round(1 - trained / (total - prompt), 4),
        "length": {
            "min": min(lengths),
            "median": statistics.median(lengths),
            "mean": round(statistics.mean(lengths), 2),
            "max": max(lengths),
        },
        "truncated": sum(e.truncated > 0 for e in encoded),
    }
