"""Directions: fitted vectors of the residual stream, with what was measured along each.

A direction may hold vectors of several layers, and for each layer a second one, which spans a plane
with the first (rotations). All vectors have length 1, so that the projection ``p = <h, v>`` of a
residual row, in units of the stream, says where a token stands; the length that the fit gave is
kept beside it. Their files are :mod:`esr.steering.directions`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor

from esr.errors import UserError
from esr.runs.plain import digest as digest_of
from esr.runs.plain import json_text, plain, restore

KEY = "esr_direction"
"""Of the metadata of a file: all but the vectors."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the projection, recorded for either class."""

PARALLEL = 1e-3
"""Least length of the part of a plane's second vector that is orthogonal to the first."""

_SHAPE = "one vector per entry, all of one width"

Role = Literal["axis", "second"]


@dataclass(frozen=True)
class ClassStatistics:
    """Projections of the texts of one class, in units of the residual stream.

    Attributes:
        n: texts.
        mean: of their projections.
        sd: standard deviation, n - 1 in the denominator.
        quantiles: at :data:`QUANTILES`.
    """

    n: int
    mean: float
    sd: float
    quantiles: tuple[float, ...] = ()

    @classmethod
    def of(cls, projections: Tensor) -> ClassStatistics:
        """``projections``: [n], one per text; the deviation of a single one is 0."""
        values = projections.double()
        at = torch.tensor(QUANTILES, dtype=values.dtype)
        sd = float(values.std()) if len(values) > 1 else 0.0
        return cls(len(values), float(values.mean()), sd, tuple(values.quantile(at).tolist()))


@dataclass(frozen=True)
class Fit:
    """One vector of a direction, and what is known along it.

    Attributes:
        layer: whose output it belongs to, 0-based.
        role: "axis" points to the concept; "second" spans a plane with it.
        norm: length before it was made 1; the step of a difference of means.
        positive: projections of texts about the concept; None where none were measured.
        negative: of the other texts.
        boundary: projection at which the classifier is undecided: ``-b / ||w||`` of a logistic
            regression, the middle of the class means otherwise.
        slope: log-odds per unit of projection, ``||w||``; None without a logistic regression.
        metrics: of the fit, such as the held-out ``auc``.
    """

    layer: int
    role: Role = "axis"
    norm: float = 1.0
    positive: ClassStatistics | None = None
    negative: ClassStatistics | None = None
    boundary: float | None = None
    slope: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def gap(self) -> float:
        """Between the class means along the vector.

        Raises:
            UserError: nothing was measured along it.
        """
        positive, negative = self.classes()
        return positive.mean - negative.mean

    def classes(self) -> tuple[ClassStatistics, ClassStatistics]:
        """Both classes.

        Raises:
            UserError: nothing was measured along this vector.
        """
        if self.positive is None or self.negative is None:
            raise UserError(
                f"a vector of layer {self.layer} says nothing of the texts on either side of it",
                "a direction that was fitted or measured on texts",
                "python -m esr.directions fit --method given --vector FILE, with two text files",
            )
        return self.positive, self.negative


@dataclass(frozen=True, eq=False)
class Direction:
    """A concept as directions of the residual stream.

    Attributes:
        name: the concept, for people.
        vectors: [n, d_model] float32, each of length 1.
        fits: n entries, what is known of each vector.
        method: e.g. "diffmean", "logistic", "ridge", "pca", "random", "repeng".
        states: what was fitted: "mean" over a response, or its "last" token; "" if unknown.
        sources: where the texts came from, as plain data.
        model: what names the model: some of ``key``, ``hf_id``, ``revision``, ``weights``.
    """

    name: str
    vectors: Tensor
    fits: tuple[Fit, ...]
    method: str
    states: str = ""
    sources: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_numbers(self)
        # As they will be read back, whole numbers as floats: the digest must not change by it.
        fits = tuple(restore(Fit, plain(fit)) for fit in self.fits)
        object.__setattr__(self, "fits", fits)
        _check(self)

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.vectors.shape[1])

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers that have a vector, ascending."""
        return tuple(sorted({fit.layer for fit in self.fits}))

    @property
    def digest(self) -> str:
        """Of vectors and metadata, 16 hex digits: what names the direction in a request."""
        content = self.vectors.contiguous().numpy().tobytes()
        return digest_of(json_text(self.metadata()).encode() + content, 16)

    def index(self, layer: int, role: Role = "axis") -> int:
        """Position of a layer's vector.

        Raises:
            UserError: the layer has none of that role.
        """
        for number, fit in enumerate(self.fits):
            if (fit.layer, fit.role) == (layer, role):
                return number
        if role == "second" and layer in self.layers:
            raise UserError(
                f"direction {self.name!r} has no plane at layer {layer}",
                "a direction with a second vector",
                "python -m esr.directions fit --plane",
            )
        raise UserError(
            f"direction {self.name!r} has no vector of layer {layer}",
            f"layers {', '.join(map(str, self.layers))}",
            f"layers=({self.layers[0]},), or fit it at layer {layer}",
        )

    def vector(self, layer: int, role: Role = "axis") -> Tensor:
        """[d_model] float32, of length 1."""
        return self.vectors[self.index(layer, role)]

    def fit(self, layer: int, role: Role = "axis") -> Fit:
        """What is known of a layer's vector."""
        return self.fits[self.index(layer, role)]

    def check_model(self, d_model: int, model: Mapping[str, Any]) -> None:
        """Refuse a direction of another model.

        Args:
            d_model: width of the model's residual stream.
            model: what names the model; compared where both sides say something.

        Raises:
            UserError: another width, or another model.
        """
        fit_again = "fit it on this model: python -m esr.directions fit"
        if self.d_model != d_model:
            raise UserError(
                f"direction {self.name!r} has width {self.d_model}", f"width {d_model}", fit_again
            )
        for name in ("weights", "revision", "hf_id"):
            theirs, ours = self.model.get(name), model.get(name)
            if theirs and ours and theirs != ours:
                raise UserError(
                    f"direction {self.name!r} belongs to another model ({name} {theirs})",
                    f"{name} {ours}",
                    fit_again,
                )

    def to_bytes(self) -> bytes:
        """The file."""
        metadata = {KEY: json_text(self.metadata())}
        return bytes(save({"vectors": self.vectors.contiguous()}, metadata))

    def metadata(self) -> dict[str, Any]:
        """All but the vectors, as plain data."""
        names = ("name", "fits", "method", "states", "sources", "model")
        return {name: plain(getattr(self, name)) for name in names}


def scaled(rows: Tensor) -> tuple[Tensor, list[float]]:
    """Rows of length 1, and the lengths they had.

    Args:
        rows: [n, d_model].

    Raises:
        UserError: a row holds no number, or has no length.
    """
    norms = rows.double().norm(dim=1)
    if not bool(torch.isfinite(norms).all()) or not bool((norms > 0).all()):
        raise UserError(
            "a vector with NaN, infinity or length 0", "finite vectors", "fit it on other texts"
        )
    return (rows.double() / norms[:, None]).float(), norms.tolist()


def orthogonal(second: Tensor, axis: Tensor) -> Tensor:
    """The part of ``second`` that is orthogonal to ``axis``, of length 1; all [d_model].

    Raises:
        UserError: the two are parallel, so that they span no plane.
    """
    (unit, toward), _ = scaled(torch.stack([axis, second]))
    # Twice: rounding leaves a part along the axis the first time.
    rest: Tensor = toward - (toward @ unit) * unit
    rest = rest - (rest @ unit) * unit
    if not float(rest.norm()) > PARALLEL:
        raise UserError(
            "the two vectors of a plane are parallel", "two directions", "choose another second one"
        )
    length: Tensor = rest.norm()
    return rest / length


def _check(direction: Direction) -> None:
    """Refuse vectors that would steer into noise, or that are not what the metadata say."""
    name, vectors = f"direction {direction.name!r}", direction.vectors
    repair = "fit it again, or name another file"
    if vectors.dim() != 2 or len(vectors) != len(direction.fits) or not len(vectors):
        raise UserError(f"{name}: vectors of shape {list(vectors.shape)}", _SHAPE, repair)
    if not bool(torch.isfinite(vectors).all()):
        raise UserError(f"{name} holds NaN or infinity", "finite numbers", repair)
    if not torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-3):
        raise UserError(f"{name} has vectors of another length than 1", "length 1", repair)
    places = [(fit.layer, fit.role) for fit in direction.fits]
    if len(set(places)) < len(places) or any(layer < 0 for layer, _ in places):
        raise UserError(f"{name} has a layer twice, or one below 0", _SHAPE, repair)
    for layer in direction.layers:
        if (layer, "second") not in places:
            continue
        if abs(float(direction.vector(layer) @ direction.vector(layer, "second"))) > PARALLEL:
            raise UserError(
                f"{name}: the two vectors of the plane at layer {layer} are not orthogonal",
                "two vectors at a right angle",
                repair,
            )


def _check_numbers(direction: Direction) -> None:
    for fit in direction.fits:
        numbers = [fit.norm, *(x for x in (fit.boundary, fit.slope) if x is not None)]
        for side in (fit.positive, fit.negative):
            numbers += [side.mean, side.sd] if side else []
        if not all(map(math.isfinite, numbers)):
            raise UserError(
                f"direction {direction.name!r} has statistics that are no numbers",
                "numbers",
                "fit it again, or name another file",
            )
