"""A direction as lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lines(direction: Mapping[str, Any]) -> list[str]:
    """A heading, and a line per vector.

    Args:
        direction: metadata of a direction file, with its ``digest``.
    """
    model = direction["model"].get("key") or direction["model"].get("hf_id") or "unknown"
    states = direction["states"] and f", {direction['states']} states"
    heading = (
        f"Direction {direction['name']!r} ({direction['method']}{states}) of model {model}, "
        f"digest {direction['digest']}"
    )
    head = f"  {'layer':>5} {'role':7}{'norm':>9}{'AUC':>7}{'mean +':>10}{'sd +':>8}"
    table = [heading, f"{head}{'mean -':>10}{'sd -':>8}{'boundary':>10}"]
    for fit in direction["fits"]:
        sides = [fit[side] or {} for side in ("positive", "negative")]
        numbers = "".join(
            f"{_number(side.get('mean')):>10}{_number(side.get('sd')):>8}" for side in sides
        )
        auc = fit["metrics"].get("auc")
        table.append(
            f"  {fit['layer']:>5} {fit['role']:7}{fit['norm']:>9.4g}"
            f"{'-' if auc is None else f'{auc:.3f}':>7}{numbers}{_number(fit['boundary']):>10}"
        )
    if all(fit["positive"] is None for fit in direction["fits"]):
        table.append("  Nothing was measured along these vectors: --method given does so.")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
