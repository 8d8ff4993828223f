"""Rows of the table of published numbers, made up."""

from __future__ import annotations

from typing import Any

from plotting.measured import Measured
from plotting.published import (
    Published,
    published,
)

NUMBERS = {row.id: row for row in published()}


LARGE = {"model": "70b", "model_title": "Llama-3.3-70B", "organism": False}


def paper(value: float | None = 4.0, **changes: Any) -> Published:
    fields: dict[str, Any] = {"digits": 1, "marks": ("v1",), "unit": "%", "where": "x", **changes}
    return Published("x", 1, "70b", "steered", "esr_rate", value=value, **fields)


def ours(value: float | None, low: float | None, high: float | None, **changes: Any) -> Measured:
    fields: dict[str, Any] = {"n": 100, "count": 4, "unit": "%", "organism": False, "run": "r"}
    return Measured(
        *(1, "70b", "Llama-3.3-70B", "steered", "esr_rate", value, low, high),
        **{**fields, **changes},
    )
