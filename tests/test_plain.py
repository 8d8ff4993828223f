"""Plain data and hashes: pinned, because run ids and cache keys are made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from esr.runs.folder import run_id
from esr.runs.plain import digest, file_digest, json_digest, plain
from esr.runs.seeds import derive


@dataclass(frozen=True)
class _Point:
    x: float
    ends: tuple[float, float]


def test_what_json_cannot_name_becomes_null() -> None:
    data = {"a": [float("nan"), float("inf"), np.float64(0.5)], "b": _Point(1.5, (2.0, -np.inf))}
    assert plain(data) == {"a": [None, None, 0.5], "b": {"x": 1.5, "ends": [2.0, None]}}
    assert json.loads(json.dumps(plain(data), allow_nan=False)) == plain(data)


def test_hashes_are_pinned(tmp_path: Path) -> None:
    # Expected values from coreutils: printf 'lava' | sha256sum, and so on.
    assert digest("lava", 16) == digest(b"lava", 16) == "5ed45566f29d2f05"
    (tmp_path / "file").write_bytes(b"lava")
    assert file_digest(tmp_path / "file") == digest("lava")
    assert json_digest({"b": 1, "a": [Path("x")]}) == digest('{"a": ["x"], "b": 1}')
    assert run_id({"seed": 0, "model": "tiny"}) == "8770c5c115"
    assert derive(0, "trial", 7, "p1") == 510285
