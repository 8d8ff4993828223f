"""Steering operators: slots against the formulas, and what is refused in one line."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from esr.engine.base import GenerationRequest, ReadRequest
from esr.engine.transformers import Placed, SteeringHook
from esr.errors import UserError
from esr.steering import directions
from esr.steering.direction import ClassStatistics, Direction, Fit
from esr.steering.interventions import Boost, Row, Slot
from esr.steering.operators import OPERATORS, Steer, strength_at
from esr.steering.rows import of_vectors
from esr.steering.scope import END
from tests.engine.formulas import FORMULAS, Numbers, numbers

WIDTH, LAYER, SCALE = 8, 3, 2.0


@pytest.fixture
def known() -> Numbers:
    return numbers(WIDTH, SCALE)


def steered(h: torch.Tensor, slots: tuple[Slot, ...], direction: Direction) -> torch.Tensor:
    """What the reference engine does with slots."""
    everywhere = (0, END)
    rows = [Row(i, direction.digest) for i in range(len(direction.vectors))]
    placed = [Placed(slot, everywhere) for slot in slots]
    hook = SteeringHook(placed, everywhere, rows, of_vectors(direction.vectors))
    result: torch.Tensor = hook(torch.nn.Identity(), (), h[None])[0]
    return result


def stream(n: int = 200) -> torch.Tensor:
    return SCALE * torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("operator", OPERATORS)
def test_slots_are_the_formula(operator: str, known: Numbers) -> None:
    formula, strength = FORMULAS[operator]
    direction = known.direction(LAYER)
    request = Steer(direction, operator, strength)
    assert {slot.layer for slot in request} == {LAYER}
    h = stream()
    expected = formula(h, known, strength)
    torch.testing.assert_close(steered(h, request.slots, direction), expected)
    assert not torch.allclose(expected, h)


def test_closed_loops_end_where_they_aim(known: Numbers) -> None:
    direction = known.direction(LAYER)
    h = stream()
    aim = known.mean_positive + 2 * known.sd_positive
    after = steered(h, Steer(direction, "sttp", 2.0).slots, direction) @ known.v
    below = h @ known.v < known.boundary
    assert 0 < below.sum() < len(h)
    torch.testing.assert_close(after[below], torch.full_like(after[below], aim))
    torch.testing.assert_close(after[~below], (h @ known.v)[~below])
    probability = torch.sigmoid(
        known.slope
        * (
            steered(h, Steer(direction, "probe", math.log(99)).slots, direction) @ known.v
            - known.boundary
        )
    )
    assert float(probability.min()) == pytest.approx(0.99, abs=1e-5)


def test_a_rotation_keeps_lengths_and_brings_one_class_towards_the_other(known: Numbers) -> None:
    direction = known.direction(LAYER)
    h = stream()
    turned = steered(h, Steer(direction, "rotate", 90.0).slots, direction)
    torch.testing.assert_close(turned.norm(dim=1), h.norm(dim=1))
    start = known.mean_negative * known.v + known.second_negative * known.w
    end = known.mean_positive * known.v + known.second_positive * known.w
    angle = math.degrees(math.acos(float(start @ end / start.norm() / end.norm())))
    there = steered(start[None], Steer(direction, "rotate", angle).slots, direction)[0]
    torch.testing.assert_close(there / there.norm(), end / end.norm())


def test_bounds_in_place_of_a_strength(known: Numbers) -> None:
    direction = known.direction(LAYER)
    h = stream()
    p = h @ known.v
    between = steered(h, Steer(direction, "pin", low=-0.5, high=0.7).slots, direction)
    torch.testing.assert_close(between @ known.v, p.clamp(-0.5, 0.7))
    above = steered(h, Steer(direction, "floor", low=0.3).slots, direction)
    torch.testing.assert_close(above @ known.v, p.clamp(min=0.3))
    below = steered(h, Steer(direction, "cap", high=0.3).slots, direction)
    torch.testing.assert_close(below @ known.v, p.clamp(max=0.3))


@pytest.mark.parametrize("operator", [name for name in OPERATORS if name not in ("ablate", "cap")])
def test_one_step_is_the_same_for_all_operators(operator: str, known: Numbers) -> None:
    """A token at the means of the other class moves by the step, whatever the operator."""
    direction = known.direction(LAYER)
    typical = (known.mean_negative * known.v + known.second_negative * known.w)[None]
    for step in (0.5, 0.9):
        strength = strength_at(operator, direction, LAYER, step)
        moved = steered(typical, Steer(direction, operator, strength).slots, direction)
        assert float((moved - typical).norm()) == pytest.approx(step, rel=1e-4)


def test_operators_that_take_away_have_no_step(known: Numbers) -> None:
    with pytest.raises(UserError, match="ablate does not push"):
        strength_at("ablate", known.direction(LAYER), LAYER, 1.0)
    assert strength_at("rotate", known.direction(LAYER), LAYER, 1e9) == pytest.approx(180)


def test_several_layers_act_each_with_its_own_vector(known: Numbers, tmp_path: Path) -> None:
    other = numbers(WIDTH, SCALE, seed=5)
    both = Direction(
        "wine",
        torch.stack([known.v, other.v]),
        (known.direction(2).fits[0], other.direction(5).fits[0]),
        "logistic",
    )
    path = directions.write(both, tmp_path / "wine.safetensors")
    slots = Steer(path, "sttp", 4, scope="generated").slots
    assert [(s.layer, s.write.number, s.scope) for s in slots] == [
        (2, 0, "generated"),
        (5, 1, "generated"),
    ]
    assert [s.layer for s in Steer(str(path), "sttp", 4, layers=(5,))] == [5]
    # The digest is all that a journal needs.
    assert Steer(both.digest, "sttp", 4, scope="generated").slots == slots


def test_an_operator_in_a_request_stands_for_its_slots(known: Numbers) -> None:
    steer = Steer(known.direction(LAYER), "rotate", 45.0)
    boost = Boost(3, 2.0)
    assert GenerationRequest("a", (1,), (boost, steer)).interventions == (boost, *steer.slots)  # type: ignore[arg-type]
    read = ReadRequest("a", (1,), interventions=steer)  # type: ignore[arg-type]
    assert read.interventions == steer.slots


def test_selective_rotation_leaves_layers_alone_whose_classes_lie_on_one_side(
    known: Numbers,
) -> None:
    direction = known.direction(LAYER)
    axis, second = direction.fits
    shifted = replace(axis, negative=ClassStatistics(50, 0.1, 0.2))
    same_side = replace(direction, fits=(shifted, second))
    assert len(Steer(same_side, "rotate", 90.0).slots) == 4
    with pytest.raises(UserError, match="selective acts at none of the layers 3"):
        Steer(same_side, "selective", 90.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operator": "push"}, "unknown operator 'push'"),
        ({"layers": (4,)}, "no vector of layer 4; allowed: layers 3"),
        ({"operator": "pin", "low": 2.0, "high": 1.0}, "pin between 2 and 1"),
        ({"strength": math.nan}, "strength is nan"),
        ({"scope": "sometimes"}, "unknown scope"),
    ],
)
def test_what_cannot_be_done_is_refused(
    options: dict[str, object], message: str, known: Numbers
) -> None:
    with pytest.raises(UserError, match=message):
        Steer(known.direction(LAYER), **options)  # type: ignore[arg-type]


def test_a_bare_vector_serves_only_operators_that_need_no_texts(known: Numbers) -> None:
    bare = Direction("bare", known.v[None], (Fit(LAYER, norm=3.0),), "repeng")
    (slot,) = Steer(bare, "diffmean", 2.0)
    assert slot.boost == 6.0
    assert Steer(bare, "cap", high=1.0).slots[0].low == 1.0
    for operator in ("swfc", "sttp", "stmp", "floor", "cap", "pin"):
        with pytest.raises(UserError, match="says nothing of the texts"):
            Steer(bare, operator)
    with pytest.raises(UserError, match="no plane"):
        Steer(bare, "rotate", 90.0)
    with pytest.raises(UserError, match="without a logistic regression"):
        Steer(bare, "probe")
