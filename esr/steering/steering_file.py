"""Steering files: interventions in TOML, for commands and scripts.

::

    [[steer]]
    direction = "wine.safetensors"     # beside the file, or a digest
    operator = "sttp"
    strength = 4
    layers = [3]

    [[boost]]
    latent = 19
    value = 300.0

Keys are those of :class:`esr.steering.operators.Steer`, and of ``Boost``, ``Clamp`` and ``Scale``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from esr.errors import UserError
from esr.runs.user_files import first_fault, read_text
from esr.steering.interventions import Boost, Clamp, Intervention, Scale
from esr.steering.operators import Steer

_ALLOWED = "TOML with [[steer]], [[boost]], [[clamp]] or [[scale]] tables"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Steer(_Strict):
    direction: str
    operator: str = "sttp"
    strength: float = 1.0
    layers: tuple[int, ...] = ()
    scope: str = "all"
    low: float | None = None
    high: float | None = None


class _Latent(_Strict):
    latent: int
    value: float
    layer: int | None = None
    scope: str = "all"


class _Clamp(_Latent):
    value: float = 0.0


class _File(_Strict):
    steer: list[_Steer] = []
    boost: list[_Latent] = []
    clamp: list[_Clamp] = []
    scale: list[_Latent] = []


@dataclass(frozen=True)
class SteeringFile:
    """What a file asks for.

    Attributes:
        interventions: for a request.
        layers: that they name, ascending: an engine needs hooks there.
    """

    interventions: tuple[Intervention, ...]

    @property
    def layers(self) -> tuple[int, ...]:
        named = {item.layer for item in self.interventions if item.layer is not None}
        return tuple(sorted(named))


def load(path: Path) -> SteeringFile:
    """Read a steering file.

    Raises:
        UserError: no such file, not TOML, an unknown key, or what an operator refuses.
    """
    text = read_text(path, _ALLOWED, "name another file")
    try:
        file = _File.model_validate(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise UserError(
            f"{path} is no steering file ({fault})", _ALLOWED, f"edit {path}"
        ) from error
    items: list[Intervention] = []
    for entry in file.steer:
        beside = path.parent / entry.direction
        direction = str(beside) if beside.is_file() else entry.direction
        items += Steer(**{**_values(entry), "direction": direction})
    items += [Boost(**_values(entry)) for entry in file.boost]
    items += [Clamp(**_values(entry)) for entry in file.clamp]
    items += [Scale(**_values(entry)) for entry in file.scale]
    if not items:
        raise UserError(f"{path} asks for nothing", _ALLOWED, f"edit {path}")
    return SteeringFile(tuple(items))


def _values(entry: BaseModel) -> Mapping[str, Any]:
    return dict(entry)
