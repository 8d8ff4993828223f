"""Experiments that replay experiment 1, on the scripted engine and judge."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from esr.engine.base import Engine, Generation, GenerationRequest, Reading, ReadRequest
from esr.pipeline import replay
from esr.pipeline.context import RunContext
from esr.pipeline.experiment import Experiment, conduct
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.schema import TrialSpec
from esr.runs.folder import RunFolder
from tests import scripted


async def parent_run(folder: Path) -> ReplayedRun:
    """A complete scripted run of experiment 1."""
    folder.mkdir(parents=True, exist_ok=True)
    await scripted.experiment_1(folder, 0.0)
    (run,) = (folder / "results" / replay.EXPERIMENT_1 / "scripted").iterdir()
    return replay.read(run, "scripted")


def condition_of(spec: TrialSpec, other: TrialSpec) -> TrialSpec:
    """A trial under the arm, the boost and the interventions of another."""
    return replace(
        spec, arm=other.arm, threshold=other.threshold, interventions=other.interventions
    )


def run_folder(experiment: str, folder: Path) -> RunFolder:
    return RunFolder.locate(folder / "results", experiment, "scripted", {"seed": 0})


@dataclass
class Interrupted:
    """The scripted engine, until Ctrl-C after so many responses."""

    engine: Engine
    responses: int

    async def generate(self, request: GenerationRequest) -> Generation:
        if self.responses == 0:
            raise asyncio.CancelledError
        self.responses -= 1
        return await self.engine.generate(request)

    async def read(self, request: ReadRequest) -> Reading:
        return await self.engine.read(request)

    def describe(self) -> dict[str, object]:
        return {"name": "interrupted"}


def context(
    run: RunFolder, folder: Path, replayed: ReplayedRun | None, stop: int | None = None
) -> RunContext:
    """A scripted context with a parent; ``stop``: Ctrl-C after so many responses."""
    made = scripted.context(run, folder, parent=replayed)
    if stop is not None:
        whole = made.start_engine

        async def start() -> Any:
            return Interrupted(await whole(), stop)

        made.start_engine = start
    return made


async def child_run(
    experiment: Experiment[Any],
    config: Any,
    folder: Path,
    replayed: ReplayedRun | None,
    stop: int | None = None,
) -> Path:
    """Run an experiment on a parent; its run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with run_folder(experiment.name, folder) as run:
        run.update(organism=False, title="Scripted", config=config.identity())
        await conduct(experiment, config, context(run, folder, replayed, stop))
    return run.path


async def resumes(
    experiment: Experiment[Any], config: Any, folder: Path, replayed: ReplayedRun, stop: int
) -> None:
    """Interrupted and repeated ends like uninterrupted, with no response generated twice."""
    whole = await child_run(experiment, config, folder / "whole", replayed)
    try:
        await child_run(experiment, config, folder / "halves", replayed, stop)
    except asyncio.CancelledError:
        pass
    else:
        raise AssertionError("the run was not interrupted")
    partial = (run_folder(experiment.name, folder / "halves").path / "results.json").read_text()
    assert '"partial": true' in partial
    repeated = await child_run(experiment, config, folder / "halves", replayed)
    assert (repeated / "results.json").read_bytes() == (whole / "results.json").read_bytes()
    log = (folder / "halves" / "calls.log").read_text().splitlines()
    made = Counter(line for line in log if line.startswith("generation"))
    assert set(made.values()) == {1}
