"""The GPU check, as far as CPUs can tell: its steps run as a miniature, and it resumes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import record
from benchmarks.gpu import command, parity, steps, tables
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.steps import LONGEST, STEPS
from esr.steering.interventions import Boost, Clamp

GIB = 2**30


def step(name: str) -> steps.Step:
    return next(step for step in STEPS if step.name == name)


def test_steps_fit_into_eight_minutes_and_cover_the_issue() -> None:
    names = [s.name for s in STEPS]
    assert len(set(names)) == len(names)
    assert all(0 < s.limit <= LONGEST <= 480 for s in STEPS)
    for graphs in ("eager", "piecewise", "full"):
        assert {f"parity-{graphs}-f32", f"parity-{graphs}-bf16"} <= set(names)
    for shape in ("8b", "70b"):
        assert {f"overhead-{shape}-64", f"overhead-{shape}-256", f"memory-{shape}"} <= set(names)
    assert {"parity-full-fp8", "null", "distinct-8b", "ranks", "lora-8b"} <= set(names)


def test_what_a_machine_cannot_run_says_why() -> None:
    assert step("null").lacks([]) == "no GPU here"
    assert step("ranks").lacks([80 * GIB]) == "needs 2 GPUs, here is 1"
    assert step("ranks").lacks([80 * GIB] * 2) == ""
    assert step("overhead-70b-64").lacks([48 * GIB]) == "70b does not fit on 1 of these GPUs"
    assert step("overhead-70b-64").lacks([48 * GIB] * 2) == ""
    assert step("overhead-8b-64").lacks([80 * GIB]) == ""


@pytest.mark.parametrize(
    "name",
    ["parity-eager-f32", "null", "overhead-8b-64", "distinct-8b", "memory-8b", "ranks"],
)
def test_a_step_in_miniature(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real forward passes on vLLM's CPU build, in this process."""
    monkeypatch.setenv(
        "VLLM_ENABLE_V1_MULTIPROCESSING", os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    )
    figures = step(name).run(Setting.small())
    # What only a GPU can tell is not passed here.
    assert figures.pop("passed", None) is (True if step(name).module == "parity" else None)
    if name == "parity-eager-f32":
        assert figures["equal"] == figures["requests"] == 5
        assert figures["worst_regret_steered"] == 0.0
    elif name == "null":
        assert figures["changed_beside_steered"] == figures["changed_by_a_boost_of_0"] == 0
    elif name == "overhead-8b-64":
        assert set(figures["ratios"]) == {"boost", "boost+26 clamps"}
        assert all(v > 0 for v in figures["tokens_per_second"].values())
    elif name == "distinct-8b":
        assert list(figures["ratios"]) == ["0", "1"]
        assert figures["ratios"]["0"] == [1.0]
    elif name == "memory-8b":
        assert figures["used_most_gib"] > 0
    else:
        assert figures["worst_read_relative"] <= 1e-5


def row(**changes: Any) -> dict[str, Any]:
    return {"steered": True, "equal": True, "regret": 0.0, "changed": True, **changes}


@pytest.mark.parametrize(
    ("rows", "exact", "quantised", "passed"),
    [
        ([row(), row(steered=False, changed=False)], True, False, True),
        ([row(), row(equal=False)], True, False, False),
        # Half precision: near-ties pass, the same regret in an unsteered request does not.
        ([row(equal=False, regret=0.2)], False, False, True),
        ([row(), row(steered=False, regret=0.3)], False, False, False),
        # fp8: as far from the unquantised model as unsteered requests are, or not.
        ([row(regret=1.0), row(steered=False, regret=0.5)], False, True, True),
        ([row(regret=2.0), row(steered=False, regret=0.5)], False, True, False),
        # Steering that changes nothing proves nothing.
        ([row(changed=False), row(changed=False)], True, False, False),
    ],
)
def test_verdicts(rows: list[dict[str, Any]], exact: bool, quantised: bool, passed: bool) -> None:
    assert parity.verdict(rows, exact=exact, quantised=quantised)["passed"] is passed


def test_requests_are_of_all_kinds() -> None:
    batch = parity.requests(Setting(), 512, 700)
    assert len(batch) == 30
    kinds = [tuple(type(item) for item in request.interventions) for request in batch[:5]]
    assert kinds == [
        (),
        (Boost,),
        (Clamp, Clamp),
        (Boost, Clamp, Clamp),
        (Boost, *[Clamp] * 26),
    ]


def test_a_miniature_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--miniature"]) == 2
    assert "a miniature is no GPU result" in capsys.readouterr().err
    assert command.main(["--miniature", "--json", str(record.RESULTS / "gpu-2026-01-01.json")]) == 2
    assert "is among the results" in capsys.readouterr().err
    path = tmp_path / "gpu-2026-01-01.json"
    record.save(path, {"miniature": False, "steps": {}})
    assert command.main(["--miniature", "--json", str(path)]) == 2
    assert f"{path} is of a GPU" in capsys.readouterr().err


def test_a_dry_run_lists_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "out.json"
    assert command.main(["--dry-run", "--json", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(STEPS) + 1
    assert lines[0].startswith("parity-eager-f32")
    assert lines[-1] == f"at most {sum(s.limit for s in STEPS)} s in all; figures go to {path}"
    assert not path.exists()


def test_it_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step in its own process; one that is too long is ended, and repeated next time."""
    path = tmp_path / "out.json"
    common = ["--miniature", "--json", str(path)]
    lora, null = step("lora-8b"), step("null")
    monkeypatch.setattr(command, "STEPS", (replace(null, limit=0), lora))
    assert command.main([*common, "--budget", str(lora.limit - 1), "--steps", "lora-8b"]) == 0
    assert "not started, it could end after the budget" in capsys.readouterr().out
    assert command.main([*common, "--steps", "null", "lora-8b"]) == 2
    told = capsys.readouterr()
    assert "null: too long after" in told.out
    assert "lora-8b: measured after" in told.out
    assert "1 steps did not pass: null" in told.err
    done = json.loads(path.read_text())
    assert done["miniature"] is True
    assert done["steps"]["lora-8b"]["figures"]["examples_per_step"] == 1

    ran: list[str] = []

    def again(step: steps.Step, _miniature: bool) -> dict[str, Any]:
        ran.append(step.name)
        return {"status": "passed", "seconds": 1.0, "limit": step.limit, "figures": {}}

    monkeypatch.setattr(command, "_in_own_process", again)
    assert command.main([*common, "--steps", "null", "lora-8b"]) == 0
    assert ran == ["null"]
    assert command.main([*common, "--steps", "lora-8b", "--again"]) == 0
    assert ran == ["null", "lora-8b"]
    assert tables.text({**json.loads(path.read_text())}).count("| passed |") == 2
