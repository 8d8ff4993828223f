"""Fitting a direction to the states of texts that are about a concept, and of texts that are not.

scikit-learn does the fitting; here is what goes in, and what is kept. A share of the texts is held
out of everything but the area under the ROC curve. States: [n_texts, d_model], one row per text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esr.errors import UserError
from esr.runs import seeds
from esr.steering.direction import ClassStatistics, Fit, Role, orthogonal, scaled

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

Method = Literal["diffmean", "logistic", "ridge", "pca"]

LEAST_TEXTS = 10
"""Of either class: with fewer, neither the deviation of a class nor the held-out area says much."""

HELD_OUT = 0.2
"""Share of the texts of either class that is held out."""

RIDGE_GRID = tuple(10.0**power for power in range(-6, 5))
"""``C = 1 / lambda`` among which validation chooses."""

MAX_ITERATIONS = 20_000
"""Of L-BFGS: states are not standardised, so that some concepts take thousands."""


@dataclass(frozen=True)
class Split:
    """Texts that are fitted, and those that are held out; all [n, d_model]."""

    positive: Tensor
    negative: Tensor
    held_positive: Tensor
    held_negative: Tensor

    @classmethod
    def of(cls, positive: Tensor, negative: Tensor, seed: int) -> Split:
        """A seeded split of either class.

        Raises:
            UserError: too few texts of a class.
        """
        for name, states in (("about the concept", positive), ("not about it", negative)):
            if len(states) < LEAST_TEXTS:
                raise UserError(
                    f"{len(states)} texts {name}",
                    f"at least {LEAST_TEXTS}",
                    "give more texts, or generate more: --n-texts",
                )
        first, held_first = _held_out(positive, seed, "positive")
        second, held_second = _held_out(negative, seed, "negative")
        return cls(first, second, held_first, held_second)


def _held_out(states: Tensor, seed: int, name: str) -> tuple[Tensor, Tensor]:
    order = seeds.generator(seed, "held-out texts", name).permutation(len(states))
    n = max(2, round(HELD_OUT * len(states)))
    return states[order[n:].copy()], states[order[:n].copy()]


def fit_vector(split: Split, method: Method, layer: int) -> tuple[Tensor, Fit]:
    """The direction of a concept at one layer.

    * ``diffmean``: mean of the states about the concept minus mean of the others (Rimsky et al.,
      arXiv 2312.06681); undecided in the middle of the two means.
    * ``logistic``: weights of a logistic regression with an L2 penalty, C = 1, by L-BFGS, on states
      as they are (arXiv 2604.08169; whether its authors standardise could not be checked: there is
      no code of theirs).
    * ``ridge``: the same with the penalty chosen by the log loss in five-fold validation (after
      arXiv 2602.00158, RAPTOR; no code of its authors was found either).
    * ``pca``: first principal component of the states of both classes, pointing to the concept
      (after Zou et al., arXiv 2310.01405, who take differences of paired texts; ours are not
      paired).

    Returns:
        [d_model] float32 of length 1, and what is known along it.
    """
    if method == "diffmean":
        raw = split.positive.double().mean(0) - split.negative.double().mean(0)
        return _described(split, raw, layer)
    if method == "pca":
        return _described(split, _principal(split), layer)
    model = _logistic(split) if method == "logistic" else _ridge(split)
    raw = torch.from_numpy(model.coef_[0].astype(np.float64))
    boundary = -float(model.intercept_[0]) / float(raw.norm())
    metrics = {"C": float(np.ravel(getattr(model, "C_", model.C))[0])}
    return _described(split, raw, layer, boundary, float(raw.norm()), metrics)


def fit_second(split: Split, axis: Tensor, layer: int) -> tuple[Tensor, Fit]:
    """What spans a plane with ``axis``: the first principal component of the rest of the states.

    Angular steering (arXiv 2510.26243) takes the first component of difference vectors of several
    layers; with one layer there is one such vector, so we take that of the states themselves.

    Returns:
        [d_model] float32 of length 1, orthogonal to ``axis``, and what is known along it.

    Raises:
        UserError: nothing is left beside the axis.
    """
    states = torch.cat([split.positive, split.negative]).float()
    rest = states - torch.outer(states @ axis, axis)
    second = orthogonal(_first_component(rest.numpy()), axis)
    return second, _described(split, second, layer, role="second")[1]


def measure(split: Split, vector: Tensor, layer: int) -> tuple[Tensor, Fit]:
    """What is known along a vector that came from elsewhere: [d_model], of any length."""
    return _described(split, vector.double(), layer)


def auc(positive: Tensor, negative: Tensor) -> float:
    """Area under the ROC curve of projections, each [n]: how often a text about the concept lies
    above another one."""
    from sklearn.metrics import roc_auc_score

    truth = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    return float(roc_auc_score(truth, torch.cat([positive, negative]).double().numpy()))


def _described(
    split: Split,
    raw: Tensor,
    layer: int,
    boundary: float | None = None,
    slope: float | None = None,
    metrics: dict[str, float] | None = None,
    role: Role = "axis",
) -> tuple[Tensor, Fit]:
    (vector,), (norm,) = scaled(raw[None])
    positive = ClassStatistics.of(split.positive.float() @ vector)
    negative = ClassStatistics.of(split.negative.float() @ vector)
    middle = (positive.mean + negative.mean) / 2
    area = auc(split.held_positive.float() @ vector, split.held_negative.float() @ vector)
    fit = Fit(
        layer=layer,
        role=role,
        norm=norm,
        positive=positive,
        negative=negative,
        boundary=middle if boundary is None else boundary,
        slope=slope,
        metrics={**(metrics or {}), "auc": area},
    )
    return vector, fit


def _classes(split: Split) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    states = torch.cat([split.positive, split.negative]).double().numpy()
    return states, np.r_[np.ones(len(split.positive)), np.zeros(len(split.negative))]


def _logistic(split: Split) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1.0, max_iter=MAX_ITERATIONS).fit(*_classes(split))


def _ridge(split: Split) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    search = GridSearchCV(
        LogisticRegression(max_iter=MAX_ITERATIONS),
        {"C": list(RIDGE_GRID)},
        scoring="neg_log_loss",
        cv=StratifiedKFold(5, shuffle=True, random_state=0),
    )
    best: LogisticRegression = search.fit(*_classes(split)).best_estimator_
    return best


def _principal(split: Split) -> Tensor:
    states, truth = _classes(split)
    component = _first_component(states)
    toward = torch.from_numpy(states[truth == 1].mean(0) - states[truth == 0].mean(0))
    return component if float(component.double() @ toward) >= 0 else -component


def _first_component(states: NDArray[np.floating]) -> Tensor:
    from sklearn.decomposition import PCA

    component = PCA(n_components=1, svd_solver="full").fit(states).components_[0]
    return torch.from_numpy(component.astype(np.float32))
