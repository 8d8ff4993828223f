"""Models of your own: a TOML file with the fields of :class:`esr.models.spec.ModelSpec`.

See ``docs/own-model.md`` and ``examples/my_model.toml``. Paths in the file are relative to it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from esr.errors import UserError
from esr.models.spec import Calibration, GenerationProfile, ModelShape, ModelSpec, SaeSource
from esr.runs.user_files import read_json, read_text

HELP = "see docs/own-model.md and examples/my_model.toml"

UNKNOWN = "unexpected_keyword_argument"
"""pydantic's name of the error."""

_TABLES: Mapping[str, type] = {
    "sae": SaeSource,
    "calibration": Calibration,
    "shape": ModelShape,
    "profiles": GenerationProfile,
}
_UNKNOWN_PRIOR = {
    "rounds": 10,
    "prompts_per_round": 1,
    "prior_mean": 1.0,
    "prior_sd": 1.0,
    "low": 0.0,
    "high": 5.0,
    "max_tokens": 1,
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
    has_prior = "calibration" in data
    data.setdefault("calibration", dict(_UNKNOWN_PRIOR))
    _resolve_paths(path.parent, data)
    _fill_widths(path, text, data)
    spec = _validated(path, text, data)
    _check(path, text, spec)
    if prior_needed and not has_prior:
        raise UserError(
            f"{path} has no [calibration]",
            ", ".join(f.name for f in fields(Calibration)),
            f"python -m esr.models suggest-prior {path}",
        )
    return spec


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    text = read_text(path, "a TOML file in UTF-8", HELP)
    try:
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}", "key = value lines", HELP) from error


def _resolve_paths(folder: Path, data: dict[str, Any]) -> None:
    """Local paths become absolute. ``hf_id`` is a path where it starts with ``.`` or ``/``."""
    if str(data.get("hf_id", "")).startswith((".", "/")):
        data["hf_id"] = str((folder / str(data["hf_id"])).resolve())
    if isinstance(data.get("labels"), str):
        data["labels"] = (folder / data["labels"]).resolve()
    sae = data.get("sae")
    if isinstance(sae, dict) and isinstance(sae.get("folder"), str):
        sae["folder"] = (folder / sae["folder"]).resolve()


def _fill_widths(path: Path, text: str, data: dict[str, Any]) -> None:
    """Widths that are left out are read from the SAE where it is a local folder."""
    sae = data.get("sae")
    folder = sae.get("folder") if isinstance(sae, dict) else None
    if not isinstance(folder, Path):
        return
    if not (folder / "cfg.json").is_file():
        raise _wrong(path, text, ("sae", "folder"), str(folder), "a folder with SAELens' cfg.json")
    form = "JSON with d_in, d_sae"
    config = read_json(folder / "cfg.json", dict[str, Any], "a SAELens configuration", form, HELP)
    for ours, theirs in (("d_model", "d_in"), ("d_sae", "d_sae")):
        if theirs not in config:
            continue
        if data.setdefault(ours, config[theirs]) != config[theirs]:
            allowed = f"{config[theirs]}, as {folder / 'cfg.json'} has it; or leave it out"
            raise _wrong(path, text, (ours,), data[ours], allowed)


def _validated(path: Path, text: str, data: Mapping[str, Any]) -> ModelSpec:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(ModelSpec).validate_python({"title": data.get("key"), **data})
    except ValidationError as error:
        # A misspelt field is also a missing one: its own spelling is the better message.
        errors = sorted(error.errors(), key=lambda item: item["type"] != UNKNOWN)
        first = errors[0]
        where = tuple(str(part) for part in first["loc"])
        if first["type"] == "missing":
            name = ".".join(where)
            raise UserError(f"{path}: {name} is missing", f"a value of {name}", HELP) from error
        if first["type"] == UNKNOWN:
            table = _TABLES[where[0]] if len(where) > 1 else ModelSpec
            names = ", ".join(field.name for field in fields(table))
            raise _wrong(path, text, where, "unknown field", names) from error
        raise _wrong(path, text, where, first["input"], _allowed(first, where)) from error


def _allowed(error: Mapping[str, Any], where: Sequence[str]) -> str:
    """What pydantic would have taken, in our words, e.g. "above 0" or "a valid integer"."""
    match error["type"]:
        case "greater_than":
            return f"above {error['ctx']['gt']:g}"
        case "greater_than_equal":
            return f"{error['ctx']['ge']:g} or more"
        case "dataclass_type" | "dict_type":
            return f"a table [{'.'.join(where)}]"
        case "path_type":
            return "a path, in quotation marks"
        case "string_too_short":
            return "a text that is not empty"
    return re.sub(r"^Input should be (a |an )?", "", error["msg"])


def _check(path: Path, text: str, spec: ModelSpec) -> None:
    """What one field alone does not show."""
    source, prior = spec.sae, spec.calibration
    layers = spec.shape.layers if spec.shape else 10**6
    in_stack = f"0 to {layers - 1}"
    rules: list[tuple[bool, str, Any, str]] = [
        (
            bool(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", spec.key)),
            "key",
            spec.key,
            "lower-case letters, digits, dots, dashes",
        ),
        (
            (source.folder is not None) != bool(source.release and source.sae_id),
            "sae",
            source.describe(),
            "either folder, or release and sae_id",
        ),
        (spec.steering_layer < layers, "steering_layer", spec.steering_layer, in_stack),
        (spec.feature_layer < layers, "feature_layer", spec.feature_layer, in_stack),
        (prior.low < prior.high, "calibration.high", prior.high, f"above low, {prior.low}"),
        (
            prior.low <= prior.prior_mean <= prior.high,
            "calibration.prior_mean",
            prior.prior_mean,
            f"low to high, {prior.low} to {prior.high}",
        ),
        ("paper" in spec.profiles, "profiles", ", ".join(spec.profiles), "one named paper"),
    ]
    for name, profile in spec.profiles.items():
        layer = profile.steering_layer
        place = f"profiles.{name}.steering_layer"
        rules.append((layer is None or layer < layers, place, layer, in_stack))
    for place, tokens in (
        ("max_tokens", spec.max_tokens),
        ("calibration.max_tokens", prior.max_tokens),
    ):
        room = f"below the context, {spec.context} tokens, prompt included"
        rules.append((tokens < spec.context, place, tokens, room))
    for fine, where, value, allowed in rules:
        if not fine:
            raise _wrong(path, text, where.split("."), value, allowed)


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
