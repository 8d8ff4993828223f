"""Which runs are shown: the newest complete ones with the default settings, and what is named.

A run with other settings (:mod:`esr.runs.same_settings`) is shown only where it is named by its
path. What cannot be read costs one line on the error stream and is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from esr.errors import UserError, unknown
from esr.models import REGISTRY
from esr.runs.folder import recorded_runs, warn
from esr.runs.paths import RESULTS
from esr.runs.run_metadata import RunMetadata
from esr.runs.same_settings import as_options, non_default_settings
from plotting.sources import DAMAGE, PACKAGES, Source, left_out, load_source

SHOWN = {PACKAGES[3]: ("prompts",), PACKAGES[7]: ("judge",), PACKAGES[13]: ("pairing",)}
"""Settings that the figure of an experiment names itself: they need not be the default."""

OF_MODEL = {
    "judge": "judge",
    "prompts": "prompt_set",
    "n_latents": "n_latents",
    "n_trials": "n_trials",
}
"""Options whose default is the model's: name of the option, and of the model's field."""


def unusual(metadata: RunMetadata, judge: str = "") -> dict[str, object]:
    """Settings for which a run must be named before a figure shows it: option -> value.

    Args:
        metadata: of the run.
        judge: the judge that the user asked for, who then need not be the default.
    """
    spec = REGISTRY.get(metadata.model)
    free = {*SHOWN.get(metadata.experiment, ()), *(["judge"] if judge else [])}
    return {
        name: value
        for name, value in non_default_settings(metadata).items()
        if name not in free and value != getattr(spec, OF_MODEL.get(name, ""), None)
    }


def split_paths(where: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """Paths of a command line: runs and files, which are thereby named, and results folders.

    Raises:
        UserError: a path that does not exist.
    """
    named, roots = [], []
    for path in list(where) or [RESULTS]:
        if path.is_file() or (path / "run.json").is_file():
            named.append(path)
        elif path.is_dir() or path == RESULTS:
            roots.append(path)
        else:
            raise UserError(
                f"no such results: {path}",
                "a results folder, a run folder or a results file",
                f"ls {path.parent}",
            )
    return named, roots


def find(
    where: Iterable[Path] = (), model: str = "", judge: str = "", runs: Iterable[Path] = ()
) -> list[Source]:
    """Every run that can be read: first what is named by its path, then newest first.

    Args:
        where: results folders, run folders and results files; ``data/results`` where empty.
        model: the one model wanted, by key.
        judge: the one judge wanted, by id; "haiku" also matches the dated id.
        runs: run folders and results files besides.

    Raises:
        UserError: a path that does not exist, or is named and cannot be read; an unknown model.
    """
    named, roots = split_paths(where)
    sources = {path.resolve(): load_source(path) for path in [*named, *runs]}
    for folder, metadata in _newest_first(roots):
        if folder.resolve() not in sources and (source := _readable(folder)):
            sources[folder.resolve()] = replace(source, stands=not unusual(metadata, judge))
    _check_model(model, (source.model for source in sources.values()))
    return [s for s in sources.values() if model in ("", s.model) and is_judge(judge, s)]


def find_sources(
    experiment: str,
    where: Iterable[Path] = (),
    per: Callable[[Mapping[str, Any]], Hashable] = lambda metadata: str(metadata["model"]),
    *,
    runs: Iterable[Path] = (),
    model: str = "",
    judge: str = "",
) -> list[Source]:
    """The newest complete run of each model that has the default settings, and what is named.

    A newer run with other settings is told in one line, with the option that shows it.

    Args:
        experiment: package name, e.g. ``experiment_01_esr``.
        where: results roots, run folders and results files; ``data/results`` where empty.
        per: of ``run.json``, what runs must share for the newest to stand for the others.
        runs: run folders and results files that take the place of what stands for the same.
        model: the one model wanted, by key.
        judge: the one judge wanted, by id.

    Raises:
        UserError: a path that does not exist, or is named and cannot be read; an unknown model.
    """
    named, roots = split_paths(where)
    sources = [load_source(path) for path in named]
    sources += [source for source in map(load_source, runs) if source.package == experiment]
    for source in sources:
        if source.results is None:
            raise UserError(f"{source.path} has no results", "a finished run", f"ls {source.path}")
    taken = {per(source.metadata.model_dump()) for source in sources if source.metadata}
    passed: dict[Hashable, tuple[Path, str]] = {}
    recorded = _newest_first(roots, experiment)
    _check_model(model, [metadata.model for _, metadata in recorded] + [s.model for s in sources])
    for folder, metadata in recorded:
        if not _finished(folder, metadata, model):
            continue
        try:
            place = per(metadata.model_dump())
        except DAMAGE as error:
            left_out(folder, error)
            continue
        if place in taken:
            continue
        if settings := unusual(metadata, judge):
            passed.setdefault(place, (folder, as_options(settings)))
        elif (newest := _readable(folder)) and is_judge(judge, newest):
            sources.append(newest)
            taken.add(place)
    for folder, options in passed.values():
        warn(f"{folder} is not shown, for it has {options}; --run {folder} shows it")
    order = {key: index for index, key in enumerate(REGISTRY)}
    return sorted(sources, key=lambda source: order.get(source.model, len(order)))


def _check_model(model: str, recorded: Iterable[str]) -> None:
    names = list(dict.fromkeys([*REGISTRY, *recorded]))
    if model and model not in names:
        raise unknown("model", model, names, "--model 70b")


def _newest_first(roots: Iterable[Path], package: str = "*") -> list[tuple[Path, RunMetadata]]:
    runs = [run for root in roots for run in recorded_runs(root, package)]
    return sorted(runs, key=lambda run: run[1].started, reverse=True)


def _finished(folder: Path, metadata: RunMetadata, model: str) -> bool:
    complete = metadata.status == "complete" and (folder / "results.json").exists()
    return complete and model in ("", metadata.model)


def _readable(folder: Path) -> Source | None:
    """A run folder, or a line on the error stream."""
    try:
        return load_source(folder)
    except UserError as error:
        left_out(folder, error)
        return None


def is_judge(wanted: str, source: Source) -> bool:
    """Whether the judge is the one wanted: any where empty; "haiku" matches the dated id."""
    return not wanted or source.judge == wanted or f"-{wanted}-" in source.judge
