"""Opening a run: what its options resolve to, its parent, its folder and its judges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from esr import judge
from esr.judge.base import CallSettings, Judge
from esr.judge.ledger import Ledger
from esr.models import ModelSpec, prompts
from esr.models.identity import model_identity, pinned, unresolved
from esr.pipeline import replay
from esr.pipeline.cli import CommonConfig, ReplayConfig
from esr.pipeline.context import RunContext
from esr.pipeline.engines import StartEngine, one_engine
from esr.pipeline.journal_schema import is_valid
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.settings import settings_of
from esr.runs.folder import RunFolder, find_runs, read_run, warn
from esr.runs.plain import file_digest
from esr.runs.results import iter_trials, read_results


@asynccontextmanager
async def open_context(
    name: str,
    config: CommonConfig,
    spec: ModelSpec,
    start: StartEngine | None = None,
    model: Mapping[str, Any] | None = None,
    ledger: Ledger | None = None,
    layers: Sequence[int] = (),
) -> AsyncIterator[RunContext]:
    """The context of one run: folder locked, judge not yet asked, engine not yet started.

    Args:
        name: of the experiment.
        config: its options; one with ``from_results`` gives the run its parent run.
        spec: the model.
        start: gives an engine that outlives the run; where left out, the run has its own.
        model: :func:`esr.models.identity.model_identity` from when that engine was not yet started.
        ledger: of a command that opens several runs; where left out, the run has its own.
        layers: of an engine of its own, see :func:`esr.pipeline.engines.one_engine`.

    Raises:
        UserError: no parent run, an unknown judge or prompt set, an unwritable
            folder, or a run that another process has open.
    """
    place = located(name, config, spec, model)
    if place.folder.status != "complete":
        spec = pinned(spec)
    ledger = ledger or Ledger(config.max_spend)
    grader = judge.create(
        config.judge or spec.judge,
        calls=CallSettings(config.judge_concurrency),
        rubric=config.rubric,
        ledger=ledger,
    )
    async with AsyncExitStack() as stack:
        opened = stack.enter_context(_open_folder(place, config, spec))
        ledger.open(opened.journal)
        if start is None:
            start = await stack.enter_async_context(one_engine(config, spec, layers))
        context = RunContext(
            spec=spec,
            profile=spec.profile(config.profile),
            prompts=prompts.load(config.prompts, spec.prompt_set),
            run=opened,
            seed=config.seed,
            start_engine=start,
            settings=place.settings,
            parent=place.parent,
            in_flight=config.in_flight * config.replicas,
            ledger=ledger,
            judge=judge.batched(grader, opened.path / "batches.jsonl")
            if config.judge_batch
            else grader,
            urgent_judge=grader if config.judge_batch else None,
            rate_labels=partial(_rate, grader),
        )
        try:
            yield context
        finally:
            # First the answers on their way, which are paid for; then what all have cost.
            await context.close()
            opened.update(spend=round(ledger.spent_in_run, 6))


async def _rate(grader: Judge, labels: Sequence[str]) -> list[float]:
    from esr.judge import concreteness

    return await concreteness.rate(grader, labels)


def complete_results(
    name: str, config: CommonConfig, spec: ModelSpec, model: Mapping[str, Any] | None = None
) -> tuple[RunFolder, dict[str, Any]] | None:
    """Folder and results of a run that is complete: nothing is opened, written or asked.

    Verdicts that failed and latents that could not be calibrated are tried again where that can
    be done here; else they are shown as they are.

    Args:
        name: of the experiment.
        config: its options.
        spec: the model.
        model: see :func:`open_context`.

    Returns:
        None where there is something to do.
    """
    if config.new:
        return None
    place = complete_place(name, config, spec, model)
    if place is None or not (file := place.folder.path / "results.json").is_file():
        return None
    folder = place.folder
    if folder.metadata.results_digest not in ("", file_digest(file)):
        warn(f"{file} is not what the run was completed with: it is made anew from the journal")
        return None
    results = read_results(file)
    open_trials = [t for t in iter_trials(results) if t.judged and t.error and t.response]
    missing = len(open_trials) + sum(feature.error is not None for feature in results.features)
    calibrated = [feature.calibration for feature in results.features if feature.calibration]
    missing += sum(calibration.get("unjudged", 0) for calibration in calibrated)
    if missing and judge.has_key(config.judge or spec.judge):
        return None
    return folder, results.raw


@contextmanager
def _open_folder(place: Located, config: CommonConfig, spec: ModelSpec) -> Iterator[RunFolder]:
    with place.folder as opened:
        opened.update(config=config.identity(), title=spec.title, organism=spec.organism)
        if place.parent is not None:
            path, identity = str(place.parent.path), place.parent.identity()
            opened.update(parent={"path": path, **identity})
        yield opened


@dataclass(frozen=True)
class Located:
    """Where a run lies, and what names it.

    Attributes:
        folder: not entered; nothing is written yet.
        settings: :attr:`RunContext.settings`.
        parent: the run that is replayed, where there is one.
    """

    folder: RunFolder
    settings: Mapping[str, Any]
    parent: ReplayedRun | None


def located(
    name: str, config: CommonConfig, spec: ModelSpec, model: Mapping[str, Any] | None = None
) -> Located:
    """The folder that is named by all that can change a run's results.

    What names a model of the hub is asked of the hub, and its SAE downloaded, where this machine
    knows neither and holds no complete run.

    Args:
        name: of the experiment.
        config: its options.
        spec: the model.
        model: its identity, where that is known.

    Raises:
        UserError: no parent run, an unknown judge, rubric or prompt set, or a model that is
            neither on this machine nor on the hub.
    """
    model = model or model_identity(spec)
    if unresolved(model) and (place := complete_place(name, config, spec, model)):
        return place
    if unresolved(model):
        spec = pinned(spec)
        model = model_identity(spec)
    return _located(name, config, spec, model)


def complete_place(
    name: str, config: CommonConfig, spec: ModelSpec, model: Mapping[str, Any] | None = None
) -> Located | None:
    """The folder of a run that is complete; None where there is none. Needs no network.

    Where this machine does not know the commit of the weights or the content of the SAE, a
    complete run that agrees in everything else is the one.
    """
    model = model or model_identity(spec)
    place = _located(name, config, spec, model)
    if not unresolved(model):
        return place if place.folder.status == "complete" else None
    for path in find_runs(Path(config.output), name, spec.key):
        run = read_run(path)
        theirs = run.context.get("model") or {}
        filled = {**model, **{key: theirs.get(key) for key in unresolved(model)}}
        place = _located(name, config, spec, filled)
        if run.status == "complete" and place.folder.path == path:
            return place
    return None


def _located(name: str, config: CommonConfig, spec: ModelSpec, model: Mapping[str, Any]) -> Located:
    parent = _parent_of(config, spec)
    settings = settings_of(config, spec, model)
    identity = {**config.identity(), "context": settings}
    if parent is not None:
        identity["parent"] = parent.identity()
    folder = RunFolder.locate(
        Path(config.output), name, spec.key, identity, new=config.new, check=is_valid
    )
    return Located(folder, settings, parent)


def _parent_of(config: CommonConfig, spec: ModelSpec) -> ReplayedRun | None:
    """The run that a config replays, where it replays one."""
    if not isinstance(config, ReplayConfig):
        return None
    find = replay.find if config.parent_required else replay.find_or_none
    return find(config, spec)
