"""What a request may ask for, as plain data: boosts, clamps and scales of SAE latents, and slots.

With ``h`` the full residual stream after a layer and ``f_k`` the activation of latent ``k``
encoded from that *unsteered* ``h`` (paper section 2.2 and the authors' release):

* ``Boost(k, b)``: ``h <- h + b * W_dec[k]``; neither ``b`` nor the row is normalised.
* ``Clamp(k, t)``: ``h <- h + (t - f_k) * W_dec[k]``; ``t = 0`` ablates. The reconstruction
  error ``h - dec(f)`` is kept, because only the difference is added.
* ``Scale(k, c)``: ``h <- h + (c - 1) * f_k * W_dec[k]``; the doses of experiment 3, ours. The
  target moves with the activation, so 0 is the clamp to 0, 1 changes nothing, and 2 doubles
  what is there and adds nothing where the latent is silent.

All of them are :class:`Slot`\\ s, and so is every operator over fitted directions. What is read or
written is a :class:`Row`: of the SAE, or of a direction file. Slots of one layer all read the
same unsteered ``h`` and add up, so a boost adds to a clamp of the same latent; a later layer reads
what earlier ones have made of it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from esr.errors import UserError
from esr.steering.limits import KEEP
from esr.steering.scope import Scope, check_scope, overlap


class Row(NamedTuple):
    """What is read or written: a latent of the SAE, or a vector of a direction file.

    A latent is read as its SAE activation and written by its decoder row; a vector ``v`` is read
    as the projection ``<h, v>`` and written as it is.

    Attributes:
        number: of the latent; or of the vector in the direction.
        digest: of the direction, see :mod:`esr.steering.directions`; empty for a latent.
    """

    number: int
    digest: str = ""

    def __str__(self) -> str:
        if self.digest:
            return f"vector {self.number} of direction {self.digest}"
        return f"latent {self.number}"


@dataclass(frozen=True)
class Boost:
    """Add ``value`` times the decoder row of ``latent`` to the residual stream.

    Here and in all others: ``layer`` None is the model's steering layer; ``scope`` says at which
    positions, see :mod:`esr.steering.scope`.
    """

    latent: int
    value: float
    layer: int | None = None
    scope: Scope = "all"


@dataclass(frozen=True)
class Clamp:
    """Replace the activation of ``latent`` by ``value``; 0 ablates the latent."""

    latent: int
    value: float = 0.0
    layer: int | None = None
    scope: Scope = "all"


@dataclass(frozen=True)
class Scale:
    """Multiply the activation of ``latent`` by ``value``; 0 ablates, 1 does nothing."""

    latent: int
    value: float
    layer: int | None = None
    scope: Scope = "all"


@dataclass(frozen=True)
class Slot:
    """Read, gate, weigh, write: with ``p`` what ``read`` gives at ``h``, add
    ``boost + target + gain * p`` times ``write`` where ``low <= p < high``, else nothing.

    Attributes:
        write: the row that is added.
        read: the row that is read; None reads nothing, ``p`` being 0.
        boost: of an open loop.
        target: of a closed loop, whose ``gain`` is mostly -1; it adds up with ``boost``.
        gain: factor of ``p``.
        low: lower end of the gate, included.
        high: upper end of the gate, not included.
    """

    write: Row
    read: Row | None = None
    boost: float = 0.0
    target: float = 0.0
    gain: float = 0.0
    low: float = -math.inf
    high: float = math.inf
    layer: int | None = None
    scope: Scope = "all"

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows it needs."""
        return (self.write,) if self.read in (None, self.write) else (self.write, self.read)

    @property
    def gated(self) -> bool:
        """Whether it is shut somewhere."""
        return self.low > -math.inf or self.high < math.inf


Intervention = Boost | Clamp | Scale | Slot

LARGEST = 1e6
"""Largest value, either sign: beyond it the stream overflows in half precision, and answers are
noise without a word. Thresholds of the paper's models lie below 100."""

_KINDS: Mapping[str, type[Boost | Clamp | Scale]] = {"boost": Boost, "clamp": Clamp, "scale": Scale}


def slot_of(item: Intervention) -> Slot:
    """The same as a slot."""
    if isinstance(item, Slot):
        return item
    row = Row(item.latent)
    if isinstance(item, Boost):
        return Slot(row, boost=item.value, layer=item.layer, scope=item.scope)
    if isinstance(item, Clamp):
        return Slot(row, row, target=item.value, gain=-1.0, layer=item.layer, scope=item.scope)
    return Slot(row, row, gain=item.value - 1.0, layer=item.layer, scope=item.scope)


def expanded(items: Iterable[Any]) -> tuple[Intervention, ...]:
    """Interventions with every operator (:class:`esr.steering.operators.Steer`) as its slots."""
    return tuple(part for item in items for part in getattr(item, "slots", (item,)))


def rows_of(interventions: Iterable[Intervention]) -> tuple[Row, ...]:
    """All rows in play, ascending, each once."""
    return tuple(sorted({row for item in interventions for row in slot_of(item).rows}))


def check(interventions: Sequence[Intervention], d_sae: int, layers: Collection[int]) -> None:
    """Refuse what would break a worker in the middle of a batch.

    Args:
        interventions: of one request.
        d_sae: latents in the dictionary.
        layers: those that can be steered.

    Raises:
        UserError: too many rows, a latent, value, layer or scope out of range, or two clamps or
            scales of one latent at the same layer and positions.
    """
    rows: set[Row | int] = set()
    allowed: set[int | None] = {None, *layers}
    clamps: dict[tuple[int, int | None], tuple[Scope, ...]] = {}
    # Loops over hundreds of latents: the usual case asks for nothing that it does not need.
    for item in interventions:
        kind = type(item)
        if isinstance(item, Slot):
            _check_slot(item, d_sae)
            rows.update(row if row.digest else row.number for row in item.rows)
        else:
            if not 0 <= item.latent < d_sae:
                _check_latent(item.latent, d_sae)
            if not -LARGEST <= item.value <= LARGEST:
                _check_value(item, item.value)
            rows.add(item.latent)
            if kind is not Boost:
                others = clamps.get((item.latent, item.layer), ())
                if others and any(overlap(item.scope, other) for other in others):
                    raise _clamped_twice(item.latent)
                clamps[item.latent, item.layer] = (*others, item.scope)
        if item.scope != "all":
            check_scope(item.scope)
        if item.layer not in allowed:
            raise UserError(
                f"layer {item.layer} is not hooked",
                f"{', '.join(map(str, sorted(layers)))}",
                "name the layer where the engine starts (VllmOptions.layers, Experiment.layers)",
            )
    if len(rows) > KEEP:
        raise UserError(
            f"{len(rows)} latents in one request", f"at most {KEEP}", "fewer interventions"
        )


def _clamped_twice(latent: int) -> UserError:
    return UserError(
        f"latent {latent} is clamped twice",
        "one clamp or scale per latent, layer and position",
        "drop one of the two",
    )


def _check_latent(latent: int, d_sae: int) -> None:
    if not 0 <= latent < d_sae:
        raise UserError(
            f"latent {latent} is not in the dictionary",
            f"0 to {d_sae - 1}",
            "choose a latent in that range",
        )


def _check_value(item: Intervention, value: float) -> None:
    if not abs(value) <= LARGEST:
        raise UserError(
            f"{type(item).__name__} of {slot_of(item).write} has value {value}",
            f"{-LARGEST:g} to {LARGEST:g}",
            "correct the value",
        )


def _check_slot(slot: Slot, d_sae: int) -> None:
    for row in slot.rows:
        if not row.digest:
            _check_latent(row.number, d_sae)
    for value in (slot.boost, slot.target, slot.gain):
        _check_value(slot, value)
    if slot.read is None and (slot.gain or slot.gated):
        raise UserError(
            f"Slot of {slot.write} has a gain or a gate and reads nothing",
            "a row to read",
            "give the slot a read row",
        )
    if not slot.low < slot.high:
        raise UserError(
            f"the gate of {slot.write} is from {slot.low} to {slot.high}",
            "low below high",
            "correct the gate",
        )


def to_json(interventions: Sequence[Intervention]) -> list[dict[str, Any]]:
    """Plain data for journals and for the worker, e.g. ``[{"boost": 7, "value": 1.5}]``.

    What is at its default is left out, so that specs without layers and scopes keep their keys.
    """
    return [_to_json(item) for item in interventions]


_NUMBERS, _GATE = ("boost", "target", "gain"), ("low", "high")


def _to_json(item: Intervention) -> dict[str, Any]:
    data: dict[str, Any] = {}
    if isinstance(item, Slot):
        data["slot"] = _row_to_json(item.write)
        if item.read is not None:
            data["read"] = _row_to_json(item.read)
        data |= {name: getattr(item, name) for name in _NUMBERS if getattr(item, name)}
        data |= {name: getattr(item, name) for name in _GATE if math.isfinite(getattr(item, name))}
    else:
        data |= {type(item).__name__.lower(): item.latent, "value": item.value}
    if item.layer is not None:
        data["layer"] = item.layer
    if item.scope != "all":
        data["scope"] = item.scope
    return data


def _row_to_json(row: Row) -> int | dict[str, Any]:
    return {"index": row.number, "digest": row.digest} if row.digest else row.number


def _row_from_json(data: int | Mapping[str, Any]) -> Row:
    if isinstance(data, Mapping):
        return Row(int(data["index"]), str(data["digest"]))
    return Row(int(data))


def from_json(data: Iterable[Mapping[str, Any]]) -> tuple[Intervention, ...]:
    """Inverse of :func:`to_json`."""
    interventions: list[Intervention] = []
    for item in data:
        where = {"layer": item.get("layer"), "scope": item.get("scope", "all")}
        if "slot" in item:
            read = _row_from_json(item["read"]) if "read" in item else None
            numbers = {name: float(item[name]) for name in (*_NUMBERS, *_GATE) if name in item}
            slot: Any = partial(Slot, _row_from_json(item["slot"]), read, **where)
            interventions.append(slot(**numbers))
            continue
        name = next(name for name in _KINDS if name in item)
        interventions.append(_KINDS[name](int(item[name]), float(item["value"]), **where))
    return tuple(interventions)
