"""Direction files: what is written is read back, and what cannot steer is refused in one line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from esr.errors import UserError
from esr.steering import directions
from esr.steering.direction import ClassStatistics, Direction, Fit, orthogonal, scaled

WIDTH = 6


def direction(**changes: object) -> Direction:
    g = torch.Generator().manual_seed(0)
    axis, second = torch.randn(2, WIDTH, generator=g)
    vectors = torch.stack([axis / axis.norm(), orthogonal(second, axis)])
    positive = ClassStatistics.of(torch.tensor([1.0, 2.0, 6.0]))
    negative = ClassStatistics.of(torch.tensor([-1.0, 0.0]))
    fits = (Fit(3, norm=4, positive=positive, negative=negative, boundary=1), Fit(3, "second"))
    made = Direction(
        name="wine",
        vectors=vectors,
        fits=fits,
        method="diffmean",
        states="mean",
        sources={"positive": {"n": 3}},
        model={"key": "tiny", "weights": "abc"},
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_file_is_read_back_as_it_was_and_found_by_its_digest(tmp_path: Path) -> None:
    written = direction()
    path = directions.write(written, tmp_path / "wine.safetensors")
    again = directions.load(path)
    torch.testing.assert_close(again.vectors, written.vectors, rtol=0, atol=0)
    assert (again.fits, again.sources, again.model) == (
        written.fits,
        written.sources,
        written.model,
    )
    assert again.digest == written.digest
    torch.testing.assert_close(
        directions.rows(written.digest, [1, 0]), written.vectors.flip(0), rtol=0, atol=0
    )
    assert replace(written, name="beer").digest != written.digest


def test_class_statistics_are_those_of_the_projections() -> None:
    positive, negative = direction().fit(3).classes()
    assert (positive.n, positive.mean) == (3, 3.0)
    assert positive.sd == pytest.approx(math.sqrt(7.0))
    assert positive.quantiles == pytest.approx((1.1, 1.5, 2.0, 4.0, 5.6))
    assert direction().fit(3).gap == pytest.approx(3.0 - -0.5)
    assert negative.mean == -0.5


def test_scaled_and_orthogonal() -> None:
    unit, norms = scaled(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
    torch.testing.assert_close(unit, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert norms == [5.0, 2.0]
    torch.testing.assert_close(
        orthogonal(torch.tensor([1.0, 1.0]), torch.tensor([2.0, 0.0])), torch.tensor([0.0, 1.0])
    )
    with pytest.raises(UserError, match="parallel"):
        orthogonal(torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 0.0]))
    with pytest.raises(UserError, match="NaN"):
        scaled(torch.tensor([[math.nan, 1.0]]))
    with pytest.raises(UserError, match="length 0"):
        scaled(torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": torch.full((2, WIDTH), math.nan)}, "NaN"),
        ({"vectors": torch.ones(2, WIDTH)}, "another length than 1"),
        ({"vectors": torch.eye(WIDTH)[:1]}, "shape"),
        ({"vectors": torch.eye(WIDTH)[[0, 0]]}, "not orthogonal"),
        ({"fits": (Fit(3), Fit(3))}, "a layer twice"),
        ({"fits": (Fit(3, norm=math.inf), Fit(4))}, "no numbers"),
    ],
)
def test_what_cannot_steer_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        direction(**changes)


def test_another_width_or_model_is_refused() -> None:
    direction().check_model(WIDTH, {"key": "other name", "weights": "abc"})
    with pytest.raises(UserError, match="width 6; allowed: width 8"):
        direction().check_model(8, {})
    with pytest.raises(UserError, match="another model"):
        direction().check_model(WIDTH, {"weights": "abd"})


def test_a_layer_or_a_plane_that_is_not_there_names_what_is() -> None:
    with pytest.raises(UserError, match="no vector of layer 4; allowed: layers 3"):
        direction().index(4)
    axis = direction(vectors=direction().vectors[:1], fits=direction().fits[:1])
    with pytest.raises(UserError, match="no plane"):
        axis.index(3, "second")
    with pytest.raises(UserError, match="says nothing of the texts"):
        _ = Fit(3).gap
    with pytest.raises(UserError, match="no vector 2"):
        directions.rows(directions.store(direction()), [2])


def test_what_is_no_direction_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no direction file at"):
        directions.load(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("wine")
    with pytest.raises(UserError, match="is no direction file"):
        directions.load(tmp_path / "text")
    save_file({"vectors": torch.eye(2)}, tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="is no direction file"):
        directions.load(tmp_path / "bare.safetensors")
    with pytest.raises(UserError, match="not on this machine"):
        directions.load("0123456789abcdef")


def test_a_stored_file_that_was_changed_is_refused() -> None:
    digest = directions.store(direction(name="once"))
    directions.write(direction(name="changed"), directions.stored_as(digest))
    with pytest.raises(UserError, match="was changed"):
        directions.load(digest)
