"""The numbers of the paper, and the rule by which a measurement agrees with them or differs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from esr.analysis.intervals import Interval, Proportion
from esr.analysis.power import smallest_difference
from esr.models import REGISTRY
from esr.runs.paths import DATA
from plotting.measured import PERCENT, Measured

FILE = DATA / "paper_numbers.json"
PIXELS = 0.1
"""How well a value read off a figure is known, in its own unit (mark px)."""

SECONDARY = "secondary"
"""Mark of numbers that are known through others alone."""

AGREES, DIFFERS, NOT_RUN, NOT_COMPARABLE = "agrees", "differs", "not run", "not comparable"
INCONCLUSIVE = "inconclusive"
VERDICTS = (AGREES, INCONCLUSIVE, DIFFERS, NOT_COMPARABLE, NOT_RUN)


@dataclass(frozen=True)
class Published:
    """One number of the paper: an entry of ``data/paper_numbers.json``.

    Attributes:
        value: None where a range is given.
        digits: decimals printed.
        span: the range; None where a value is given.
        marks: where the number comes from: v1, px, code, secondary.
        where: section or figure.
        reported_by: who says so, where it is known through others alone.
    """

    id: str
    experiment: int
    model: str
    arm: str
    quantity: str
    unit: str
    marks: tuple[str, ...]
    where: str
    value: float | None = None
    digits: int = 0
    span: tuple[float, float] | None = None
    n: int | None = None
    count: int | None = None
    note: str = ""
    reported_by: str = ""

    @property
    def rounding(self) -> float:
        """Half of the last digit; 0.1 for a value read off a figure."""
        return PIXELS if "px" in self.marks else 0.5 / 10**self.digits

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true value may lie.

        A printed range as it stands; a value within its rounding; a share with its n within 1.96
        binomial standard errors, the paper's bars, and within Wilson's interval at 0.
        """
        if self.span is not None:
            return self.span
        assert self.value is not None
        half = self.rounding
        if self.unit == PERCENT and self.n:
            share = Proportion(round(self.value * self.n / 100), self.n)
            if not share.count:
                return 0.0, 100 * share.wilson().high
            half = max(half, 196.0 * share.se)
        return self.value - half, self.value + half

    @property
    def printed(self) -> str:
        """As the paper prints it."""
        if self.span is not None:
            return f"{self.span[0]:g} to {self.span[1]:g}"
        return f"{self.value:.{self.digits}f}"


@cache
def document() -> dict[str, Any]:
    """``data/paper_numbers.json``; numbers as they are printed there."""
    text = FILE.read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text, parse_float=Decimal, parse_int=Decimal)
    return data


def published() -> list[Published]:
    """All numbers of the paper."""
    return [_published(entry) for entry in document()["numbers"]]


def _published(entry: dict[str, Any]) -> Published:
    printed: list[Decimal] = entry.get("range") or [entry["value"]]
    fields: dict[str, Any] = {
        key: int(value) if isinstance(value, Decimal) else value
        for key, value in entry.items()
        if key not in ("source", "range", "value")
    }
    return Published(
        **fields,
        marks=tuple(entry["source"]),
        value=float(printed[0]) if "value" in entry else None,
        digits=max(-int(number.as_tuple().exponent) for number in printed),
        span=(float(printed[0]), float(printed[1])) if "range" in entry else None,
    )


@dataclass(frozen=True)
class Row:
    """A published number, what was measured for it, and the verdict."""

    published: Published
    measured: Measured | None

    @property
    def verdict(self) -> str:
        """By the rule of :func:`verdict`."""
        return verdict(self.published, self.measured)

    @property
    def smallest_difference(self) -> float | None:
        """From the published value, that 80 % of such runs would see at the 5 % level.

        In the unit of the number; by the measured interval's half width, so clusters count. None
        where no such interval was measured.
        """
        ours = self.measured
        if ours is None or ours.value is None or ours.low is None or ours.high is None:
            return None
        return smallest_difference(Interval(ours.low, ours.high), arms=1)

    def plain(self) -> dict[str, Any]:
        """One line of the CSV file."""
        paper, ours = self.published, self.measured
        low, high = paper.span or (None, None)
        measured = ("value", "low", "high", "n", "count", "model", "organism", "judge")
        return {
            "id": paper.id,
            "experiment": paper.experiment,
            "model": paper.model,
            "arm": paper.arm,
            "quantity": paper.quantity,
            "unit": paper.unit,
            "published": paper.value,
            "published_low": low,
            "published_high": high,
            "published_n": paper.n,
            "source": " ".join(paper.marks),
            "where": paper.where,
            "verdict": self.verdict,
            **{f"measured_{name}": getattr(ours, name, None) for name in measured},
            "smallest_difference": self.smallest_difference,
            "run": getattr(ours, "run", None),
            "note": paper.note,
            "reported_by": paper.reported_by,
        }


def verdict(paper: Published, ours: Measured | None) -> str:
    """The rule.

    ``agrees``: the published value lies inside the measured interval, or the measured value inside
    the published one; of two ranges, that they meet. ``inconclusive``: so it does, but the measured
    interval of a share also holds 0, or is wider than the published value: as many trials would
    agree with nothing at all. ``differs``: neither. ``not run``: nothing measured.
    ``not comparable``: an organism, a quantity without an interval, a single episode, and a number
    known through others alone, which stands beside ours and is no target.
    """
    if ours is None:
        return NOT_RUN
    if SECONDARY in paper.marks or ours.organism or ours.low is None or ours.high is None:
        return NOT_COMPARABLE
    low, high = paper.interval
    if paper.span is not None or paper.value is None or ours.value is None:
        return AGREES if low <= ours.high and ours.low <= high else DIFFERS
    inside = ours.low - paper.rounding <= paper.value <= ours.high + paper.rounding
    if not (inside or low <= ours.value <= high):
        return DIFFERS
    share_above_0 = paper.unit == PERCENT and paper.value > paper.rounding
    blunt = ours.low <= 0 or ours.high - ours.low > paper.value
    return INCONCLUSIVE if share_above_0 and blunt else AGREES


def compare(measured: Iterable[Measured]) -> list[Row]:
    """Every published number with what was measured for it, then the organisms' numbers.

    An organism's number stands beside the paper's for its largest model that has one, to show what
    kind of number it is; it is never compared.
    """
    rows, given = published(), list(measured)
    ours: dict[tuple[object, ...], list[Measured | None]] = {}
    for item in given:
        if not item.organism:
            ours.setdefault((item.experiment, item.model, item.arm, item.quantity), []).append(item)
    compared = [
        Row(paper, item)
        for paper in rows
        for item in ours.get((paper.experiment, paper.model, paper.arm, paper.quantity)) or [None]
    ]
    order = {key: place for place, key in enumerate(REGISTRY)}
    largest_first = sorted(rows, key=lambda row: order.get(row.model, len(order)))
    largest = {(r.experiment, r.arm, r.quantity): r for r in reversed(largest_first)}
    for item in given:
        beside = largest.get((item.experiment, item.arm, item.quantity))
        if item.organism and beside:
            compared.append(Row(beside, item))
    return sorted(compared, key=lambda row: row.published.experiment or 99)
