"""Directions of other libraries: control vectors in GGUF, and saved files of steering-vectors.

* repeng and llama.cpp: a GGUF file of architecture ``controlvector`` with a tensor
  ``direction.N`` for the output of decoder layer N, 0-based (github.com/vgel/repeng,
  repeng/extract.py: ``export_gguf``, and layer N read from ``hidden_states[N + 1]``).
* steering-vectors: ``torch.save`` of a ``SteeringVector`` with ``layer_activations``, layer number
  to tensor, or of such a mapping (github.com/steering-vectors/steering-vectors). Loaded with
  ``weights_only``: no code of the file is run.

Neither says what its vectors mean on texts; ``python -m esr.directions fit --method given``
measures that.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esr.errors import UserError
from esr.steering import directions
from esr.steering.direction import Direction, Fit, scaled

_ALLOWED = "a direction file, a control vector (.gguf) or a steering-vectors file (.pt)"
_STEP = "name another file"


@dataclass
class _SteeringVector:
    """Stands in for the class of steering-vectors, whatever its version."""

    layer_activations: dict[int, Tensor] = field(default_factory=dict)
    layer_type: str = ""


_CLASSES = ("steering_vectors.steering_vector.SteeringVector", "steering_vectors.SteeringVector")


def read_any(path: Path) -> Direction:
    """A direction from a file of ours, of repeng or llama.cpp, or of steering-vectors.

    Raises:
        UserError: no such file, or none of these.
    """
    if not path.is_file():
        raise UserError(f"no direction file at {path}", _ALLOWED, _STEP)
    if path.suffix == ".gguf":
        return _named(path, _gguf(path), "repeng")
    if path.suffix in (".pt", ".pth", ".bin"):
        return _named(path, _saved(path), "steering-vectors")
    return directions.read(path)


def _named(path: Path, by_layer: Mapping[int, Tensor], method: str) -> Direction:
    if not by_layer:
        raise UserError(f"{path} holds no vectors", _ALLOWED, _STEP)
    layers = sorted(by_layer)
    if layers[0] < 0:
        raise UserError(f"{path} counts layers from the end", "layers 0 and above", _STEP)
    rows = [by_layer[layer].float().flatten() for layer in layers]
    if len({len(row) for row in rows}) > 1:
        raise UserError(f"{path} holds vectors of several widths", "one width", _STEP)
    vectors, norms = scaled(torch.stack(rows))
    fits = tuple(Fit(layer, norm=norm) for layer, norm in zip(layers, norms, strict=True))
    return Direction(path.stem, vectors, fits, method, sources={"file": path.name})


def _gguf(path: Path) -> dict[int, Tensor]:
    from gguf import GGUFReader

    try:
        reader = GGUFReader(path)
        architecture = reader.get_field("general.architecture")
        name = bytes(architecture.parts[-1]).decode() if architecture else ""
        if name != "controlvector":
            raise ValueError(f"architecture {name or 'not named'}")
        return {
            int(tensor.name.removeprefix("direction.")): torch.from_numpy(tensor.data.copy())
            for tensor in reader.tensors
            if tensor.name.startswith("direction.")
        }
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"{path} is no control vector ({str(error)[:100]})", _ALLOWED, _STEP
        ) from error


def _saved(path: Path) -> dict[int, Tensor]:
    # The stand-in is known by the names of the original alone, and only while this file is read.
    stand_ins: list[Any] = [(_SteeringVector, name) for name in _CLASSES]
    try:
        with torch.serialization.safe_globals(stand_ins):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0][:100]
        raise UserError(
            f"{path} is no saved steering vector ({reason})", _ALLOWED, _STEP
        ) from error
    by_layer = loaded.layer_activations if isinstance(loaded, _SteeringVector) else loaded
    if not isinstance(by_layer, Mapping) or not all(
        isinstance(layer, int) and isinstance(tensor, Tensor) for layer, tensor in by_layer.items()
    ):
        raise UserError(f"{path} is no saved steering vector", _ALLOWED, _STEP)
    return dict(by_layer)
