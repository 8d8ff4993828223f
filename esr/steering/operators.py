"""Steering operators over fitted directions: each is a few slots (:class:`Slot`) per layer.

Notation: ``h`` a residual row, ``v`` the direction, of length 1, ``p = <h, v>``; ``mu+``, ``s+``
mean and deviation of ``p`` over texts about the concept, ``mu-``, ``s-`` over the others, ``Dmu``
the gap of the means, ``m`` the projection at which the classifier is undecided, ``a`` the strength.
Everything is read from the ``h`` that reaches the layer. ``docs/steering.md`` draws all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esr.errors import UserError, unknown
from esr.steering import directions
from esr.steering.direction import Direction, Fit
from esr.steering.interventions import Row, Slot
from esr.steering.scope import Scope, check_scope


@dataclass(frozen=True)
class Place:
    """Where an operator acts, and its numbers.

    Attributes:
        row: the direction at this layer.
        fit: what is known along it.
        layer: whose output is changed.
        scope: positions.
        strength: ``a``.
        low, high: bounds of the projection, where the user gave them.
        second: what spans a plane with the direction, and what is known along it.
    """

    row: Row
    fit: Fit
    layer: int
    scope: Scope = "all"
    strength: float = 1.0
    low: float | None = None
    high: float | None = None
    second: tuple[Row, Fit] | None = None

    def slot(self, write: Row | None = None, read: Row | None = None, **terms: float) -> Slot:
        """A slot that reads and writes the direction where nothing else is named."""
        return Slot(
            write or self.row, read or self.row, layer=self.layer, scope=self.scope, **terms
        )

    def reached(self) -> float:
        """``mu+ + a s+``: where a closed loop brings the projection."""
        positive, _ = self.fit.classes()
        return positive.mean + self.strength * positive.sd

    @property
    def boundary(self) -> float:
        """``m``."""
        self.fit.classes()
        assert self.fit.boundary is not None
        return self.fit.boundary


def diffmean(place: Place) -> list[Slot]:
    """``h + a v_raw``, ``v_raw`` the direction at the length of its fit: for a difference of means,
    a = 1 is one gap of the class means (CAA, arXiv 2312.06681)."""
    return [Slot(place.row, None, place.strength * place.fit.norm, **_where(place))]


def swfc(place: Place) -> list[Slot]:
    """``h + a Dmu v`` with ``v`` of a logistic regression (arXiv 2604.08169, SwFC).

    From the paper's text: no code of its authors was found to check it against.
    """
    return [Slot(place.row, None, place.strength * place.fit.gap, **_where(place))]


def sttp(place: Place) -> list[Slot]:
    """``h + (mu+ + a s+ - p) v`` where ``p < m`` (arXiv 2604.08169, StTP): to a target projection.

    A closed loop: what earlier layers take away along ``v`` is given back. From the paper's text;
    no code of its authors was found.
    """
    return [place.slot(target=place.reached(), gain=-1.0, high=place.boundary)]


def stmp(place: Place) -> list[Slot]:
    """``h + 2a (m - p) v`` where ``p < m`` (arXiv 2604.08169, StMP): to a mirrored projection.

    ``a = 1`` reflects at the boundary. From the paper's text; no code of its authors was found.
    """
    twice = 2 * place.strength
    return [place.slot(target=twice * place.boundary, gain=-twice, high=place.boundary)]


def floor(place: Place) -> list[Slot]:
    """``h + (max(p, lo) - p) v``, ``lo`` given or ``mu+ + a s+``: never below it.

    ``sttp`` without its gate: tokens between boundary and ``lo`` are lifted too.
    """
    low = place.reached() if place.low is None else place.low
    return [place.slot(target=low, gain=-1.0, high=low)]


def cap(place: Place) -> list[Slot]:
    """``h + (min(p, hi) - p) v``, ``hi`` given or ``mu- + a s-``: never above it.

    Activation capping (arXiv 2601.10387) with tau = hi: its published code subtracts
    ``max(0, p - tau) v``; the paper's text has the same along the negated axis.
    """
    high = place.high
    if high is None:
        _, negative = place.fit.classes()
        high = negative.mean + place.strength * negative.sd
    return [place.slot(target=high, gain=-1.0, low=high)]


def pin(place: Place) -> list[Slot]:
    """``h + (clip(p, lo, hi) - p) v``; one value, ``mu+ + a s+``, where neither bound is given.

    The natural range of ``p`` is in the direction file, as quantiles.
    """
    both = place.low is None and place.high is None
    low = place.reached() if both else (-math.inf if place.low is None else place.low)
    high = low if both else (math.inf if place.high is None else place.high)
    if low > high:
        raise UserError(
            f"pin between {low:g} and {high:g}", "low at most high", "exchange low and high"
        )
    if low == high:
        return [place.slot(target=low, gain=-1.0)]
    slots = []
    if low > -math.inf:
        slots.append(place.slot(target=low, gain=-1.0, high=low))
    if high < math.inf:
        slots.append(place.slot(target=high, gain=-1.0, low=high))
    return slots


def ablate(place: Place) -> list[Slot]:
    """``h - a p v``; ``a = 1`` leaves nothing along ``v`` (directional ablation, Arditi et al.,
    arXiv 2406.11717)."""
    return [place.slot(gain=-place.strength)]


def rotate(place: Place) -> list[Slot]:
    """``h - P h + R P h``: turned by ``a`` degrees in the plane of the direction and its second
    vector, the length of ``h`` kept; from the mean of the other texts to that of the concept's.

    Angular steering (arXiv 2510.26243) turns *to* an angle; this is the offset by an angle of
    selective steering (arXiv 2601.19375), ``R = cos T P + sin T (b2 b1' - b1 b2')``, whose sense
    of rotation is ours: the one that leads from one class mean to the other.
    """
    if place.second is None:
        raise UserError(
            "a rotation in no plane",
            "a direction with a second vector",
            "python -m esr.directions fit --plane",
        )
    second, along = place.second
    (x1, x0), (y1, y0) = _means(place.fit), _means(along)
    sense = 1.0 if x0 * y1 - y0 * x1 >= 0 else -1.0
    angle = sense * math.radians(place.strength)
    still, turned = math.cos(angle) - 1, math.sin(angle)
    first = place.row
    return [
        place.slot(gain=still),
        place.slot(first, second, gain=-turned),
        place.slot(second, first, gain=turned),
        place.slot(second, second, gain=still),
    ]


def selective(place: Place) -> list[Slot]:
    """:func:`rotate` where the class means project with opposite signs; nothing at other layers
    (arXiv 2601.19375)."""
    positive, negative = place.fit.classes()
    return rotate(place) if positive.mean * negative.mean < 0 else []


def probe(place: Place) -> list[Slot]:
    """``h + max(0, p* - p) v``: the least step to log-odds ``a`` of the probe, at every token.

    ``p* = m + a / ||w||``, so that ``a = log(P / (1 - P))`` reaches probability ``P``: 2.2 for
    0.9, 4.6 for 0.99. After arXiv 2602.00158 (RAPTOR), which fits such probes; the step is the
    closed form for them, ours: no code of its authors was found.
    """
    if place.fit.slope is None:
        raise UserError(
            "operator probe on a direction without a logistic regression",
            "method ridge or logistic",
            "python -m esr.directions fit --method ridge",
        )
    low = place.boundary + place.strength / place.fit.slope
    return [place.slot(target=low, gain=-1.0, high=low)]


OPERATORS: Mapping[str, Callable[[Place], list[Slot]]] = {
    **{o.__name__: o for o in (diffmean, swfc, sttp, stmp, floor, cap, pin, ablate)},
    **{o.__name__: o for o in (rotate, selective, probe)},
    # The arithmetic of a difference of means, on a direction that means nothing.
    "random": diffmean,
}
"""By name. ``random`` is :func:`diffmean` on a random direction (``esr.directions.concepts``)."""

PLANAR = ("rotate", "selective")
"""Operators that need a second vector."""


@dataclass(frozen=True)
class Steer:
    """One operator over a direction, for a request: ``interventions=(Steer(...), ...)``.

    Attributes:
        direction: a direction, the path of its file, or its digest, which is what is kept here.
        operator: a name of :data:`OPERATORS`.
        strength: ``a`` of the operator's formula.
        layers: layers of the direction where it acts; all of them where left out.
        scope: positions, see :mod:`esr.steering.scope`.
        low: bound of ``floor`` and ``pin``, in units of the projection, in place of ``strength``.
        high: bound of ``cap`` and ``pin``.

    Raises:
        UserError: no such direction or operator, a layer without a vector, or numbers that the
            operator cannot do with. All of it before an engine is asked.
    """

    direction: str | Path | Direction
    operator: str = "sttp"
    strength: float = 1.0
    layers: tuple[int, ...] = ()
    scope: Scope = "all"
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        given = self.direction
        direction = given if isinstance(given, Direction) else directions.load(given)
        object.__setattr__(self, "direction", directions.store(direction))
        object.__setattr__(self, "layers", tuple(self.layers) or direction.layers)
        if self.operator not in OPERATORS:
            raise unknown("operator", self.operator, list(OPERATORS), "operator='sttp'")
        check_scope(self.scope)
        for name in ("strength", "low", "high"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UserError(f"{name} is {value}", "a number", f"correct {name}")
        if not self.slots:
            raise UserError(
                f"{self.operator} acts at none of the layers {', '.join(map(str, self.layers))}",
                "a layer whose class means project with opposite signs",
                "operator='rotate', or another layer",
            )

    @property
    def slots(self) -> tuple[Slot, ...]:
        """What the engine does."""
        direction = directions.load(str(self.direction))
        operator = OPERATORS[self.operator]
        return tuple(
            slot for layer in self.layers for slot in operator(self._place(direction, layer))
        )

    def __iter__(self) -> Iterator[Slot]:
        return iter(self.slots)

    def _place(self, direction: Direction, layer: int) -> Place:
        digest = str(self.direction)
        index = direction.index(layer)
        second = None
        if self.operator in PLANAR:
            other = direction.index(layer, "second")
            second = Row(other, digest), direction.fits[other]
        return Place(
            Row(index, digest),
            direction.fits[index],
            layer,
            self.scope,
            self.strength,
            self.low,
            self.high,
            second,
        )


def strength_at(operator: str, direction: Direction, layer: int, step: float) -> float:
    """The strength at which a typical token not about the concept moves by ``step``.

    Typical: its projections are the means of the texts that are not about the concept. So one
    scale serves all operators, and the same calibration for all of them.

    Args:
        operator: one that pushes towards the concept; ``ablate`` and ``cap`` take away.
        direction: fitted.
        layer: of the direction.
        step: length of the change, in units of the residual stream; a rotation changes by at most
            twice the length of the plane's part, and stays at half a turn beyond that.

    Raises:
        UserError: an operator that does not push.
    """
    fit = direction.fit(layer)
    if operator in ("diffmean", "random"):
        return step / fit.norm
    positive, negative = fit.classes()
    reached = negative.mean + step
    middle = negative.mean if fit.boundary is None else fit.boundary
    if not negative.mean < min(middle, positive.mean):
        raise UserError(
            f"direction {direction.name!r} does not part its texts at layer {layer} (means "
            f"{positive.mean:.4g} and {negative.mean:.4g}, boundary {middle:.4g})",
            "a direction along which the concept's texts lie higher",
            "fit it on other texts",
        )
    if operator == "swfc":
        return step / fit.gap
    if operator in ("sttp", "floor", "pin"):
        return (reached - positive.mean) / positive.sd
    if operator == "stmp" and fit.boundary is not None:
        return step / (2 * (fit.boundary - negative.mean))
    if operator == "probe" and fit.boundary is not None and fit.slope is not None:
        return (reached - fit.boundary) * fit.slope
    if operator in PLANAR:
        (_, x), (_, y) = _means(fit), _means(direction.fit(layer, "second"))
        return math.degrees(2 * math.asin(min(1.0, step / (2 * math.hypot(x, y)))))
    raise UserError(
        f"operator {operator} does not push towards a concept",
        ", ".join(name for name in OPERATORS if name not in ("ablate", "cap")),
        "choose one of these",
    )


def _means(fit: Fit) -> tuple[float, float]:
    positive, negative = fit.classes()
    return positive.mean, negative.mean


def _where(place: Place) -> dict[str, Any]:
    return {"layer": place.layer, "scope": place.scope}
