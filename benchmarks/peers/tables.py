"""The tables of benchmarks/README.md, from the files of earlier runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import record
from benchmarks.peers.plan import PACKAGES, STEERED, UNSTEERED, middle

WHY_FASTER = (
    "A static batch has no scheduler, no paged cache and no border between processes, and all its "
    "responses end together: on a model this small those cost more than the arithmetic they save."
)
"""Our reading of a row in which a peer of equal lengths is ahead."""


def peers(data: Mapping[str, Any] | None) -> str:
    """The table of peers."""
    if data is None:
        return record.not_measured("make peers")
    parts = [record.taken_on(data)]
    for result in data["models"]:
        parts.append(_heading(result))
        rows = list(_rows(result))
        parts.append(
            record.table(
                ("arm", "version", "equal lengths", "ours / it", "mixed lengths", "ours / it"),
                rows,
            )
        )
        parts.append(_agreement(result))
        ahead = list(_ahead(result))
        if ahead:
            parts.append(f"Faster than ours: {'; '.join(ahead)}. {WHY_FASTER}")
    if data["missing"]:
        parts.append("\n".join(data["missing"]))
    return "\n\n".join(parts)


def _heading(result: Mapping[str, Any]) -> str:
    sizes = result["sizes"]
    return (
        f"**{result['title']}**, {result['engine']['dtype']}: {sizes['requests']} requests, "
        f"{sizes['in_flight']} in flight, prompts of {sizes['prompt']} tokens, responses of "
        f"{sizes['tokens']} (mixed: a quarter to seven quarters of it), greedy; tokens per second, "
        f"medians of {sizes['rounds']} rounds in which the arms alternate, least and most."
    )


def _rows(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for name in (STEERED, UNSTEERED, *PACKAGES):
        if name not in result["versions"]:
            continue
        row = [name, result["versions"][name]]
        for runs in result["runs"].values():
            row.append(record.spread(runs[name], ",.0f"))
            row.append("" if name == STEERED else f"{_ratio(runs, name):.2f}")
        yield row


def _ratio(runs: Mapping[str, list[float]], name: str) -> float:
    """Median over the rounds of ours, steered, to an arm."""
    return middle([a / b for a, b in zip(runs[STEERED], runs[name], strict=True)])


def _agreement(result: Mapping[str, Any]) -> str:
    agreement = result["agreement"]
    n = agreement["requests"]
    equal = ", ".join(f"{name} {k} of {n}" for name, k in agreement["equal"].items())
    return (
        f"The same greedy tokens as ours on {n} steered requests, of which steering changes "
        f"{agreement['changed_by_steering']}: {equal or 'no peer ran'}."
    )


def _ahead(result: Mapping[str, Any]) -> Iterator[str]:
    for kind, runs in result["runs"].items():
        for name in PACKAGES:
            if name in runs and (ratio := _ratio(runs, name)) < 1:
                yield f"{name} at {kind} lengths, {1 / ratio:.2f} times"


def distinct(data: Mapping[str, Any] | None) -> str:
    """K distinct configurations in one batch."""
    if data is None:
        return record.not_measured("make peers")
    parts = [record.taken_on(data)]
    for result in data["models"]:
        sizes, runs = result["sizes"], result["runs"]
        parts.append(
            f"**{result['title']}**: {sizes['in_flight']} requests in flight, {sizes['tokens']} "
            f"tokens each, medians of {sizes['rounds']} rounds."
        )
        rows = [
            [
                count,
                record.spread(speeds, ",.0f"),
                f"{middle([a / b for a, b in zip(speeds, runs['0'], strict=True)]):.3f}",
            ]
            for count, speeds in runs.items()
        ]
        parts.append(record.table(("K distinct boosts", "tokens/s", "/ K = 0"), rows))
    return "\n\n".join(parts)
