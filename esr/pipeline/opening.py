"""Opening a run: what its options resolve to, its parent, its folder and its judges."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from esr import judge
from esr.judge.base import CallSettings, Judge
from esr.judge.ledger import Ledger
from esr.models import ModelSpec, prompts
from esr.pipeline import replay
from esr.pipeline.cli import CommonConfig, ReplayConfig
from esr.pipeline.context import RunContext
from esr.pipeline.engines import StartEngine, one_engine
from esr.pipeline.journal_schema import is_valid
from esr.pipeline.replay import ReplayedRun
from esr.pipeline.settings import settings_of
from esr.runs.folder import RunFolder, warn
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
) -> AsyncIterator[RunContext]:
    """The context of one run: folder locked, judge not yet asked, engine not yet started.

    Args:
        name: of the experiment.
        config: its options; one with ``from_results`` gives the run its parent run.
        spec: the model.
        start: gives an engine that outlives the run; where left out, the run has its own.
        model: :func:`esr.models.identity.model_identity` from when that engine was not yet started.
        ledger: of a command that opens several runs; where left out, the run has its own.

    Raises:
        UserError: no parent run, an unknown judge or prompt set, an unwritable
            folder, or a run that another process has open.
    """
    parent = _parent_of(config, spec)
    settings = settings_of(config, spec, model)
    ledger = ledger or Ledger(config.max_spend)
    grader = judge.create(
        config.judge or spec.judge,
        calls=CallSettings(config.judge_concurrency),
        rubric=config.rubric,
        ledger=ledger,
    )
    async with AsyncExitStack() as stack:
        opened = stack.enter_context(_run_folder(name, config, spec, settings, parent))
        ledger.open(opened.journal)
        if start is None:
            start = await stack.enter_async_context(one_engine(config, spec))
        context = RunContext(
            spec=spec,
            profile=spec.profile(config.profile),
            prompts=prompts.load(config.prompts, spec.prompt_set),
            run=opened,
            seed=config.seed,
            start_engine=start,
            settings=settings,
            parent=parent,
            in_flight=config.in_flight * config.replicas,
            ledger=ledger,
            judge=judge.batched(grader, opened.path / "batches.jsonl")
            if config.judge_batch
            else grader,
            urgent_judge=grader,
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
    settings = settings_of(config, spec, model)
    folder = _located(name, config, spec, settings, _parent_of(config, spec))
    file = folder.path / "results.json"
    if folder.status != "complete" or not file.is_file():
        return None
    if folder.metadata.results_digest not in ("", file_digest(file)):
        warn(f"{file} is not what the run was completed with: it is made anew from the journal")
        return None
    results = read_results(file)
    open_trials = [t for t in iter_trials(results) if t.judged and t.error and t.response]
    missing = len(open_trials) + sum(feature.error is not None for feature in results.features)
    if missing and judge.has_key(config.judge or spec.judge):
        return None
    return folder, results.raw


def _located(
    name: str,
    config: CommonConfig,
    spec: ModelSpec,
    settings: Mapping[str, Any],
    parent: ReplayedRun | None,
) -> RunFolder:
    """The folder of the run, named by all that can change its results."""
    identity = {**config.identity(), "context": settings}
    if parent is not None:
        identity["parent"] = parent.identity()
    return RunFolder.locate(
        Path(config.output), name, spec.key, identity, new=config.new, check=is_valid
    )


@contextmanager
def _run_folder(
    name: str,
    config: CommonConfig,
    spec: ModelSpec,
    settings: Mapping[str, Any],
    parent: ReplayedRun | None,
) -> Iterator[RunFolder]:
    """:func:`_located`, locked while it is open."""
    with _located(name, config, spec, settings, parent) as opened:
        opened.update(config=config.identity(), title=spec.title, organism=spec.organism)
        if parent is not None:
            opened.update(parent={"path": str(parent.path), **parent.identity()})
        yield opened


def _parent_of(config: CommonConfig, spec: ModelSpec) -> ReplayedRun | None:
    """The run that a config replays, where it replays one."""
    if not isinstance(config, ReplayConfig):
        return None
    find = replay.find if config.parent_required else replay.find_or_none
    return find(config, spec)
