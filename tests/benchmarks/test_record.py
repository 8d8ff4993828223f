"""Tables come from files: what a document shows is what its command prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import costs, record, scale, steering_overhead, steering_share
from benchmarks.gpu import tables as gpu
from benchmarks.peers.command import TABLES

ROOT = Path(__file__).parents[2]

HEADING: dict[str, Any] = {
    "packages": {"vllm": "0.32.0", "numpy": "2"},
    "hardware": {"gpus": ["NVIDIA H200, 143771 MiB"], "cores": 16},
    "date": "2026-11-24T10:00:00+00:00",
    "load_before": [0.1, 0.2, 0.3],
    "load_after": [0.4, 0.5, 0.6],
    "git": {"commit": "0123456789abcdef"},
}


@pytest.mark.parametrize("kind", ["overhead", "share", "peers", "distinct", "gpu"])
def test_the_readme_shows_the_newest_file(kind: str) -> None:
    if kind == "gpu":
        expected = gpu.text(gpu.newest())
    elif kind == "overhead":
        expected = steering_overhead.text(record.newest(kind))
    elif kind == "share":
        expected = steering_share.text(record.newest(kind))
    else:
        expected = TABLES[kind](record.newest(kind))
    assert record.shown(kind) == expected


@pytest.mark.parametrize(("name", "module"), [("costs", costs), ("scale", scale)])
def test_costs_and_scale_are_what_their_commands_print(name: str, module: Any) -> None:
    """They follow rates, list prices, counts and the length of the rubric."""
    shown = (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")
    expected = module.document(gpu.rates(gpu.newest()))
    assert shown == expected, f"python -m benchmarks.{name} > docs/{name}.md"


def test_files(tmp_path: Path) -> None:
    assert record.newest("peers", tmp_path) is None
    for date in ("2026-11-24", "2026-12-01", "2026-11-30"):
        record.save(tmp_path / f"peers-{date}.json", {"date": date})
    (tmp_path / "peers-miniature.json").write_text("{}")
    newest = record.newest("peers", tmp_path)
    assert newest == {"date": "2026-12-01"}
    assert not list(tmp_path.glob("*.partial*"))


def test_only_what_is_between_the_marks_is_written(tmp_path: Path) -> None:
    document = tmp_path / "README.md"
    document.write_text(
        "a\n<!-- x -->\nold\n<!-- end of x -->\nb\n<!-- xy -->\n<!-- end of xy -->\n"
    )
    record.put("x", "new\nlines", document)
    assert document.read_text() == (
        "a\n<!-- x -->\nnew\nlines\n<!-- end of x -->\nb\n<!-- xy -->\n<!-- end of xy -->\n"
    )
    assert record.shown("x", document) == "new\nlines"


def test_a_table_of_the_overhead() -> None:
    """Ratios round by round, then the median; the goal is on the median."""
    speeds = {
        name: [steering_overhead.Speed(wall, 2 * wall) for wall in walls]
        for name, walls in {
            "stock vLLM": (100.0, 200.0, 100.0),
            "none steered": (100.0, 190.0, 99.0),
            "boost": (97.0, 190.0, 90.0),
            "clamp": (99.0, 190.0, 99.0),
        }.items()
    }
    figures = steering_overhead.figures(speeds)
    assert figures["ratios"]["none steered"] == [1.0, 0.95, 0.99]
    assert figures["ratios"]["boost"] == [0.97, 1.0, 90 / 99]
    settings = {"requests": 96, "in_flight": 64, "tokens": 48, "rounds": 3}
    shown = steering_overhead.text(
        {**HEADING, "settings": settings, "title": "tiny", "eager": figures}
    )
    assert "load 0.1 before and 0.4 after; commit `0123456789`" in shown
    row = "0.990 (0.950 to 1.000)"
    assert f"| none steered / stock vLLM | {row} | {row} | 0.995 | **no** |" in shown
    assert "| boost / none steered | 0.970 (0.909 to 1.000) |" in shown
    assert "| clamp / none steered | 1.000 (0.990 to 1.000) |" in shown
    assert "| 0.98 | yes |" in shown


def test_medians_have_an_interval_where_there_are_enough_of_them() -> None:
    """Of nine values the second and the eighth: 1 - 2 * (1 + 9) / 2**9 of coverage."""
    assert record.median_interval([9, 1, 2, 3, 5, 4, 6, 7, 8]) == "5.000 [2.000, 8.000]"
    assert record.median_interval([3, 1, 2]) == "2.000 (1.000 to 3.000)"


def test_a_clock_counts_what_is_inside_another_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(100))
    monkeypatch.setattr(steering_share.time, "perf_counter", lambda: float(next(now)))
    clock = steering_share.Clock()
    inner = clock.wrap(lambda: 1)
    outer = clock.wrap(lambda: inner() + inner())
    assert (outer(), clock.seconds) == (2, 1.0)
    assert (inner(), clock.seconds) == (1, 2.0)
    failing = clock.wrap(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing()
    assert (inner(), clock.seconds) == (1, 4.0)


def test_a_table_of_shares() -> None:
    settings = {"requests": 192, "in_flight": 64, "tokens": 64, "rounds": 3}
    shares = {"none steered": [0.001, 0.002, 0.009], "clamp": [0.03, 0.01, 0.025]}
    shown = steering_share.text(
        {**HEADING, "settings": settings, "models": [{"title": "tiny", "shares": shares}]}
    )
    assert "| none steered | 0.20 (0.10 to 0.90) | 0.998 | 0.995 | yes |" in shown
    assert "| clamp | 2.50 (1.00 to 3.00) | 0.975 | 0.98 | **no** |" in shown


def test_a_measured_rate_replaces_the_estimate(tmp_path: Path) -> None:
    """And a miniature's never does, not even under the name of a result."""
    steps = {
        "overhead-8b-64": {
            "status": "passed",
            "seconds": 1.0,
            "figures": {
                "tokens_per_second": {"boost": 9000.0},
                "ratios": {"boost": [0.9, 0.99, 1.0]},
            },
        }
    }
    path = tmp_path / "gpu-2026-11-24.json"
    path.write_text(json.dumps({**HEADING, "miniature": False, "steps": steps}))
    data = gpu.newest(tmp_path)
    assert gpu.rates(data) == {"8b": 9000.0}
    assert "| passed | 1.0 | boost 0.990 |" in gpu.text(data)
    assert "| null | unsteered alone, beside steered ones, and boosted by 0 | open |" in gpu.text(
        data
    )
    assert "| 9,000 |" in costs.document(gpu.rates(data))
    assert "| 9,000 |" not in costs.document({})
    assert costs.document({"8b": 9000.0}) != costs.document({})
    path.write_text(json.dumps({**HEADING, "miniature": True, "steps": steps}))
    assert gpu.newest(tmp_path) is None


def test_more_gpus_shorten_tokens_and_rounds_but_not_the_judge() -> None:
    rates = costs.known_rates({})
    two, eight = (scale.one_after_the_other(rates, gpus) for gpus in (2, 8))
    # The paper's machine: the same sum as docs/costs.md has.
    total = sum(part.total_hours(rates) for part in costs.parts() if part.generates)
    assert two.tokens + two.rounds == pytest.approx(total)
    assert eight.rounds == pytest.approx(two.rounds / 4, rel=0.02)
    assert eight.tokens < two.tokens
    assert eight.judging == two.judging
    # 15,000 calls of experiment 1 on 8B: by calls alone at least 3.75 minutes.
    part = next(p for p in costs.parts() if (p.experiment, p.model) == (1, "8b"))
    limits = scale.Limits(4000, 10**12, 10**12, 0, "")
    assert scale.judge_hours([part], limits) == pytest.approx(15000 / 4000 / 60)
    assert scale.judge_hours([part]) > scale.judge_hours([part], limits)
    assert scale.Hours(1.0, 2.0, 2.5).bottleneck == "calibration rounds"
    assert scale.Hours(1.0, 2.0, 3.5).bottleneck == "judge's limits"
    assert scale.Hours(1.0, 2.0, 3.5).all == 3.5
