"""Boost, clamp and scale of SAE latents: what a request may ask for, as plain data.

The arithmetic is :func:`esr.steering.rows.apply`. With ``h`` the full residual stream at the
steering layer and ``f_k`` the activation of latent ``k`` encoded from that *unsteered* ``h``
(paper section 2.2 and the authors' release):

* ``Boost(k, b)``: ``h <- h + b * W_dec[k]``; neither ``b`` nor the row is normalised.
* ``Clamp(k, t)``: ``h <- h + (t - f_k) * W_dec[k]``; ``t = 0`` ablates. The reconstruction
  error ``h - dec(f)`` is kept, because only the difference is added.
* ``Scale(k, c)``: ``h <- h + (c - 1) * f_k * W_dec[k]``; the doses of experiment 3, ours. The
  target moves with the activation, so 0 is the clamp to 0, 1 changes nothing, and 2 doubles
  what is there and adds nothing where the latent is silent.

A boost adds to a clamp or a scale of the same latent. Every position of prompt and response is
steered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from esr.errors import UserError
from esr.steering.limits import KEEP


@dataclass(frozen=True, order=True)
class Boost:
    """Add ``value`` times the decoder row of ``latent`` to the residual stream."""

    latent: int
    value: float


@dataclass(frozen=True, order=True)
class Clamp:
    """Replace the activation of ``latent`` by ``value``; 0 ablates the latent."""

    latent: int
    value: float = 0.0


@dataclass(frozen=True, order=True)
class Scale:
    """Multiply the activation of ``latent`` by ``value``; 0 ablates, 1 does nothing."""

    latent: int
    value: float


Intervention = Boost | Clamp | Scale

LARGEST = 1e6
"""Largest value, either sign: beyond it the stream overflows in half precision, and answers are
noise without a word. Thresholds of the paper's models lie below 100."""

_KINDS: Mapping[str, type[Intervention]] = {"boost": Boost, "clamp": Clamp, "scale": Scale}


def latents_of(interventions: Iterable[Intervention]) -> tuple[int, ...]:
    """Ids of all latents in play, ascending, each once."""
    return tuple(sorted({item.latent for item in interventions}))


def check(interventions: Sequence[Intervention], d_sae: int) -> None:
    """Refuse what would break a worker in the middle of a batch.

    Raises:
        UserError: too many latents, one or a value out of range, or two clamps or scales of one.
    """
    if len(latents_of(interventions)) > KEEP:
        raise UserError(
            f"{len(latents_of(interventions))} latents in one request",
            f"at most {KEEP}",
            "fewer interventions",
        )
    clamps: set[int] = set()
    for item in interventions:
        if not 0 <= item.latent < d_sae:
            raise UserError(
                f"latent {item.latent} is not in the dictionary",
                f"0 to {d_sae - 1}",
                "choose a latent in that range",
            )
        if not abs(item.value) <= LARGEST:
            raise UserError(
                f"{type(item).__name__} of latent {item.latent} has value {item.value}",
                f"{-LARGEST:g} to {LARGEST:g}",
                "correct the value",
            )
        if not isinstance(item, Boost):
            if item.latent in clamps:
                raise UserError(
                    f"latent {item.latent} is clamped twice",
                    "one clamp or scale per latent",
                    "drop one of the two",
                )
            clamps.add(item.latent)


def to_json(interventions: Sequence[Intervention]) -> list[dict[str, Any]]:
    """Plain data for journals and for the worker, e.g. ``[{"boost": 7, "value": 1.5}]``."""
    return [
        {type(item).__name__.lower(): item.latent, "value": item.value} for item in interventions
    ]


def from_json(data: Iterable[Mapping[str, Any]]) -> tuple[Intervention, ...]:
    """Inverse of :func:`to_json`."""
    interventions: list[Intervention] = []
    for item in data:
        name = next(name for name in _KINDS if name in item)
        interventions.append(_KINDS[name](int(item[name]), float(item["value"])))
    return tuple(interventions)
