"""Steering files in TOML: what they ask for, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from esr.errors import UserError
from esr.steering import directions
from esr.steering.interventions import Boost, Clamp, Scale
from esr.steering.operators import Steer
from esr.steering.steering_file import load
from tests.engine.formulas import numbers

FILE = """
[[steer]]
direction = "wine.safetensors"
operator = "stmp"
strength = 2
layers = [3]
scope = "generated"

[[boost]]
latent = 19
value = 300

[[clamp]]
latent = 5
layer = 2

[[scale]]
latent = 6
value = 0.5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    directions.write(numbers(8, 2.0).direction(3), tmp_path / "wine.safetensors")
    (tmp_path / "steer.toml").write_text(FILE)
    return tmp_path / "steer.toml"


def test_every_table_is_an_intervention(path: Path) -> None:
    steering = load(path)
    steer = Steer(path.parent / "wine.safetensors", "stmp", 2.0, (3,), "generated")
    assert steering.interventions == (
        *steer.slots,
        Boost(19, 300.0),
        Clamp(5, 0.0, 2),
        Scale(6, 0.5),
    )
    assert steering.layers == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "asks for nothing"),
        ("[[steer]", "is no steering file"),
        ("[[steer]]\noperator = 'sttp'", "steer.0.direction: Field required"),
        ("[[boost]]\nlatent = 1\nvalue = 1\nstrength = 2", "boost.0.strength"),
        ("[[steer]]\ndirection = 'none.safetensors'", "no direction file at none.safetensors"),
        ("[[steer]]\ndirection = 'wine.safetensors'\noperator = 'up'", "unknown operator 'up'"),
        ("[[steer]]\ndirection = 'wine.safetensors'\nlayers = [9]", "no vector of layer 9"),
    ],
)
def test_faults_are_one_line(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load(path)
