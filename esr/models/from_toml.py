"""Models of your own: a TOML file with the fields of :class:`esr.models.spec.ModelSpec`.

See ``docs/own-model.md`` and ``examples/my_model.toml``. Paths in the file are relative to it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.models.spec import Calibration, GenerationProfile, ModelShape, ModelSpec, SaeSource

HELP = "see docs/own-model.md and examples/my_model.toml"

_TABLES: Mapping[str, type] = {
    "sae": SaeSource,
    "calibration": Calibration,
    "shape": ModelShape,
}
_UNKNOWN_PRIOR = {
    "rounds": 10,
    "prompts_per_round": 1,
    "prior_mean": 1.0,
    "prior_sd": 1.0,
    "low": 0.0,
    "high": 5.0,
}


def load(path: Path, *, prior_needed: bool = True) -> ModelSpec:
    """The model of a file.

    Args:
        path: of the TOML file.
        prior_needed: False lets the calibration table be missing, for ``suggest-prior``.

    Raises:
        UserError: no such file, or a field that is missing, unknown or not allowed; names the
            line and the field.
    """
    text, data = _read(path)
    _refuse_unknown(path, text, data)
    if "calibration" not in data:
        if prior_needed:
            raise UserError(
                f"{path} has no [calibration]",
                ", ".join(f.name for f in fields(Calibration)),
                f"python -m esr.models suggest-prior {path}",
            )
        data["calibration"] = dict(_UNKNOWN_PRIOR)
    _resolve_paths(path.parent, data)
    _fill_widths(data)
    spec = _validated(path, text, data)
    _check(path, text, spec)
    return spec


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise UserError(f"no model file {path} ({error.strerror})", "a TOML file", HELP) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}", "key = value lines", HELP) from error


def _refuse_unknown(path: Path, text: str, data: Mapping[str, Any]) -> None:
    tables: list[tuple[tuple[str, ...], Any, type]] = [((), data, ModelSpec)]
    tables += [((name,), data[name], kind) for name, kind in _TABLES.items() if name in data]
    profiles = data.get("profiles", {})
    if isinstance(profiles, Mapping):
        tables += [(("profiles", n), table, GenerationProfile) for n, table in profiles.items()]
    for where, table, kind in tables:
        if not isinstance(table, Mapping):
            raise _wrong(path, text, where, table, f"a table [{'.'.join(where)}]")
        assert is_dataclass(kind)
        allowed = [f.name for f in fields(kind)]
        for name in table:
            if name not in allowed:
                raise _wrong(path, text, (*where, name), "unknown field", ", ".join(allowed))


def _resolve_paths(folder: Path, data: dict[str, Any]) -> None:
    """Local paths become absolute. ``hf_id`` is a path where it starts with ``.`` or ``/``."""
    if str(data.get("hf_id", "")).startswith((".", "/")):
        data["hf_id"] = str((folder / str(data["hf_id"])).resolve())
    if isinstance(data.get("labels"), str):
        data["labels"] = (folder / data["labels"]).resolve()
    sae = data.get("sae", {})
    if isinstance(sae.get("folder"), str):
        sae["folder"] = (folder / sae["folder"]).resolve()


def _fill_widths(data: dict[str, Any]) -> None:
    """Widths that are left out are read from the SAE where it is a local folder."""
    folder = data.get("sae", {}).get("folder")
    file = Path(folder) / "cfg.json" if folder else None
    if file is None or not file.is_file():
        return
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return
    for ours, theirs in (("d_model", "d_in"), ("d_sae", "d_sae")):
        if theirs in known:
            data.setdefault(ours, known[theirs])


def _validated(path: Path, text: str, data: Mapping[str, Any]) -> ModelSpec:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(ModelSpec).validate_python({"title": data.get("key"), **data})
    except ValidationError as error:
        first = error.errors()[0]
        where = tuple(str(part) for part in first["loc"])
        if first["type"] == "missing":
            name = ".".join(where)
            raise UserError(f"{path}: {name} is missing", f"a value of {name}", HELP) from error
        raise _wrong(path, text, where, first["input"], _allowed(first["msg"])) from error


def _allowed(message: str) -> str:
    """pydantic's message without its preamble, e.g. "a valid integer"."""
    return re.sub(r"^Input should be (a |an )?", "", message)


def _check(path: Path, text: str, spec: ModelSpec) -> None:
    source, prior = spec.sae, spec.calibration
    layers = spec.shape.layers if spec.shape else 10**6
    rules: list[tuple[bool, tuple[str, ...], Any, str]] = [
        (
            bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", spec.key)),
            ("key",),
            spec.key,
            "lower-case letters, digits, dots, dashes",
        ),
        (
            (source.folder is not None) != bool(source.release and source.sae_id),
            ("sae",),
            source.describe(),
            "either folder, or release and sae_id",
        ),
        (spec.d_model > 0, ("d_model",), spec.d_model, "1 or more"),
        (spec.d_sae > 0, ("d_sae",), spec.d_sae, "1 or more"),
        (
            0 <= spec.steering_layer < layers,
            ("steering_layer",),
            spec.steering_layer,
            f"0 to {layers - 1}",
        ),
        (
            0 <= spec.feature_layer < layers,
            ("feature_layer",),
            spec.feature_layer,
            f"0 to {layers - 1}",
        ),
        (prior.rounds > 0, ("calibration", "rounds"), prior.rounds, "1 or more"),
        (
            prior.prompts_per_round > 0,
            ("calibration", "prompts_per_round"),
            prior.prompts_per_round,
            "1 or more",
        ),
        (prior.prior_sd > 0, ("calibration", "prior_sd"), prior.prior_sd, "above 0"),
        (prior.low < prior.high, ("calibration", "high"), prior.high, f"above low, {prior.low}"),
        (
            spec.dtype in ("float32", "bfloat16", "float16"),
            ("dtype",),
            spec.dtype,
            "float32, bfloat16, float16",
        ),
        ("paper" in spec.profiles, ("profiles",), ", ".join(spec.profiles), "one named paper"),
    ]
    for fine, where, value, allowed in rules:
        if not fine:
            raise _wrong(path, text, where, value, allowed)


def _wrong(path: Path, text: str, where: Sequence[str], value: Any, allowed: str) -> UserError:
    line = line_of(text, where)
    place = f"{path} line {line}" if line else str(path)
    return UserError(f"{place}: {'.'.join(where)} is {value!r}", allowed, HELP)


def line_of(text: str, where: Sequence[str]) -> int:
    """Line of a field or table in a TOML file, 1-based; 0 where it is not found."""
    *table, name = where
    current: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\]]+)\]", line)
        if header:
            current = [part.strip().strip("\"'") for part in header[1].split(".")]
            if current == list(where):
                return number
        elif current == table and re.match(rf"\s*[\"']?{re.escape(name)}[\"']?\s*=", line):
            return number
    return 0
