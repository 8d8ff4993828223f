"""Nine mixes of self-corrections and normal responses, and what is in them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
        validation: examples held out.
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
    the mix is smaller and its share stays exact.
    """
    corrections = _ordered(pool, "self_correction", seed)
    normals = _ordered(pool, "normal", seed)
    size = settings.examples
    while size and (
        share(size, percent) > len(corrections) or size - share(size, percent) > len(normals)
    ):
        size -= 1
    wanted = share(size, percent)
    chosen = corrections[:wanted] + normals[: size - wanted]
    order = seeds.generator(seed, "order of a mix", percent).permutation(size)
    shuffled = tuple(chosen[int(index)] for index in order)
    held_out = round(size * settings.validation)
    return Mix(percent, shuffled[held_out:], shuffled[:held_out])


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
