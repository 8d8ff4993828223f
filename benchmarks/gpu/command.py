"""The command line of the GPU check."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmarks.gpu
from benchmarks import record
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.steps import STEPS, Step
from esr.engine import throughput
from esr.errors import UserError, run_command
from esr.runs import provenance

KIND = "gpu"
ENDED = ("passed", "measured", "failed")
"""Statuses of a step that has figures; a failed one is repeated with ``--again`` alone."""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=benchmarks.gpu.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [step.name for step in STEPS]
    parser.add_argument("--steps", nargs="+", choices=names, default=names, metavar="STEP")
    parser.add_argument("--again", action="store_true", help="also those that have figures")
    parser.add_argument("--budget", type=float, help="seconds; start no step that could end later")
    parser.add_argument("--json", type=Path, help="the file to go on with; default: today's")
    parser.add_argument("--dry-run", action="store_true", help="list the steps and stop")
    parser.add_argument("--miniature", action="store_true", help="on CPUs; needs --json")
    parser.add_argument("--table", action="store_true", help="only write the tables anew")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """List, run or show."""
    options = arguments(argv)

    def command() -> None:
        if options.table:
            from benchmarks.gpu import tables

            tables.write()
        elif options.child:
            _child(options)
        else:
            _run(options)

    return run_command(command)


def _run(options: argparse.Namespace) -> None:
    path = _path(options)
    chosen = [step for step in STEPS if step.name in options.steps]
    data = _begun(path, options.miniature)
    steps: dict[str, Any] = data["steps"]
    memory = [gpu.memory for gpu in throughput.gpus(provenance.gpus())]
    began = time.monotonic()
    for step in chosen:
        status = steps.get(step.name, {}).get("status", "open")
        reason = "" if options.miniature else step.lacks(memory)
        if options.dry_run:
            note = f"; {reason}" if reason else ""
            print(f"{step.name:24}{step.limit:>5} s  {status:9} {step.what}{note}")
            continue
        if status in ENDED and not options.again:
            continue
        if reason:
            print(f"{step.name}: left out, {reason}", flush=True)
            steps[step.name] = {"status": "left out", "reason": reason}
        elif options.budget and time.monotonic() - began + step.limit > options.budget:
            print(f"{step.name}: not started, it could end after the budget", flush=True)
            continue
        else:
            steps[step.name] = _in_own_process(step, options.miniature)
            print(f"{step.name}: {_line(steps[step.name])}", flush=True)
        record.save(path, {**data, "load_after": record.load()})
    if options.dry_run:
        print(f"at most {sum(step.limit for step in chosen)} s in all; figures go to {path}")
    elif bad := [n for n, s in steps.items() if s["status"] in ("failed", "error", "too long")]:
        raise UserError(f"{len(bad)} steps did not pass: {', '.join(bad)}; see {path}")


def _path(options: argparse.Namespace) -> Path:
    if options.miniature and not options.json and not options.dry_run:
        raise UserError(
            "a miniature is no GPU result", "a file outside of the results", "--json FILE"
        )
    path: Path = options.json or record.path_of(KIND)
    if options.miniature and path.resolve().parent == record.RESULTS.resolve():
        raise UserError(f"{path} is among the results", "a file elsewhere", "--json /tmp/out.json")
    return path


def _begun(path: Path, miniature: bool) -> dict[str, Any]:
    """The file so far, or a new one."""
    if not path.exists():
        return {**record.heading(), "miniature": miniature, "steps": {}}
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if data["miniature"] != miniature:
        kind = "a miniature's" if data["miniature"] else "of a GPU"
        raise UserError(f"{path} is {kind}", "one kind in a file", "--json with another name")
    return data


def _in_own_process(step: Step, miniature: bool) -> dict[str, Any]:
    """Run a step; a crash, or its end at the time limit, is a status too."""
    commit = provenance.collect()["git"]["commit"]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "benchmarks.gpu", "--steps", step.name]
        command += ["--child", str(answer), *(["--miniature"] if miniature else [])]
        start = time.monotonic()
        with subprocess.Popen(command, start_new_session=True) as process:
            try:
                code = process.wait(step.limit)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                # Whatever its engines left behind would hold the memory of the next step.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        result: dict[str, Any] = {
            "seconds": round(time.monotonic() - start, 1),
            "limit": step.limit,
            "commit": commit,
        }
        if code is None:
            return {"status": "too long", **result}
        if not answer.exists():
            return {"status": "error", "reason": f"exit status {code}, see above", **result}
        figures = json.loads(answer.read_text(encoding="utf-8"))
    if "problem" in figures:
        return {"status": "error", "reason": figures["problem"], **result}
    passed = figures.pop("passed", None)
    status = "measured" if passed is None else "passed" if passed else "failed"
    return {"status": status, **result, "figures": figures}


def _child(options: argparse.Namespace) -> None:
    """One step, in its process."""
    if not options.miniature:
        # The runner of GPUs is what is to be tested; vLLM would choose the older one for some.
        os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "1")
    setting = Setting.small() if options.miniature else Setting()
    step = next(step for step in STEPS if step.name == options.steps[0])
    try:
        figures = step.run(setting)
    except UserError as error:
        figures = {"problem": str(error)}
    record.save(options.child, figures)


def _line(result: dict[str, Any]) -> str:
    reason = f", {result['reason']}" if "reason" in result else ""
    return f"{result['status']} after {result['seconds']} s of {result['limit']}{reason}"
