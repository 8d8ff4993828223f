"""What figures are drawn from: run folders, or results files of the authors."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esr.analysis.outcomes import Outcome, outcomes_from_results
from esr.errors import UserError
from esr.models import REGISTRY
from esr.runs.folder import find_runs, read_run
from esr.runs.paths import RESULTS
from esr.runs.results import read_results, results_file

COMPARED = {
    "judge_id": "judge",
    "rubric_hash": "rubric",
    "prompt_digest": "prompts",
    "profile": "profile",
    "latent_filter": "latent filter",
    "n_trials": "trials per latent",
    "engine": "engine",
    "pairing": "pairing",
    "seed": "seed",
}
"""Settings that should agree between the runs of one figure: key in a file, name in a note."""


@dataclass(frozen=True)
class Source:
    """One run, or one file of the authors.

    Attributes:
        title: name in figures.
        model: registry key; the name in the file where the model is not registered.
        path: run folder or results file.
        organism: whether the model is a trained demonstration organism.
        outcomes: of all its trials.
        settings: ``experiment_config``, as far as it is recorded.
        status: of the run; "complete" for a file of the authors.
        data: the whole file.
    """

    title: str
    model: str
    path: Path
    organism: bool
    outcomes: Sequence[Outcome]
    settings: Mapping[str, Any] = field(default_factory=dict)
    status: str = "complete"
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def seed(self) -> int:
        """The run seed, from which bootstraps derive theirs; 0 where none is recorded."""
        return int(self.settings.get("seed") or 0)


def load_source(path: Path) -> Source:
    """A run folder or a results file, ours or the authors'.

    Raises:
        UserError: it is neither.
    """
    results = read_results(path)
    data = results.raw
    config = data.get("experiment_config") or {}
    folder = path if path.is_dir() else path.parent
    status = "complete"
    if (folder / "run.json").is_file():
        status = read_run(folder).status or "unknown"
    if data.get("partial") and status == "complete":
        status = "partial"
    hf_id = str(config.get("model_name") or path.stem)
    by_id = {spec.hf_id: spec.key for spec in REGISTRY.values()}
    key = str(config.get("model") or by_id.get(hf_id, hf_id))
    known = REGISTRY.get(key)
    title = known.title if known else hf_id.rpartition("/")[2]
    return Source(
        title=str(config.get("model_title") or title),
        model=key,
        path=path,
        organism=bool(config.get("organism", known.organism if known else False)),
        outcomes=outcomes_from_results(results),
        settings=config if "judge_id" in config else _settings_of_theirs(config),
        status=status,
        data=data,
    )


def _settings_of_theirs(config: Mapping[str, Any]) -> dict[str, Any]:
    """The authors' names for what can be compared with ours."""
    return {
        "judge_id": config.get("judge_model_name"),
        "n_trials": config.get("n_trials_per_feature"),
    }


def _model(facts: Mapping[str, Any]) -> Hashable:
    return str(facts["model"])


def find_sources(
    experiment: str,
    where: Iterable[Path] = (),
    per: Callable[[Mapping[str, Any]], Hashable] = _model,
) -> list[Source]:
    """The newest complete run of each model, or exactly what is named.

    Args:
        experiment: package name, e.g. ``experiment_01_esr``.
        where: results roots, run folders and results files; ``data/results`` where empty.
        per: of ``run.json``, what runs must share for the newest to stand for the others.

    Raises:
        UserError: a path that does not exist or holds nothing of the kind.
    """
    found: list[Source] = []
    for path in list(where) or [RESULTS]:
        if path.is_file() or (path / "run.json").is_file():
            found.append(load_source(path))
        elif path.is_dir() or path == RESULTS:
            found += [load_source(run) for run in _newest_complete(path, experiment, per)]
        else:
            raise UserError(
                f"no such results: {path}",
                "a results folder, a run folder or a results file",
                f"ls {path.parent}",
            )
    order = {key: index for index, key in enumerate(REGISTRY)}
    return sorted(found, key=lambda source: order.get(source.model, len(order)))


def _newest_complete(
    root: Path, experiment: str, per: Callable[[Mapping[str, Any]], Hashable]
) -> list[Path]:
    newest: dict[Hashable, Path] = {}
    for run in find_runs(root, experiment):
        facts = read_run(run).plain()
        if facts.get("status") == "complete" and results_file(run).is_file():
            newest.setdefault(per(facts), run)
    return list(newest.values())


def differing_settings(sources: Sequence[Source]) -> str:
    """One sentence on the settings in which the runs of a figure differ; empty where none."""
    lines = []
    for key, name in COMPARED.items():
        values = [
            source.settings[key] for source in sources if source.settings.get(key) is not None
        ]
        distinct = list(dict.fromkeys(str(value)[:32] for value in values))
        if len(distinct) > 1:
            hashed = key in ("rubric_hash", "prompt_digest")
            lines.append(name if hashed else f"{name} ({', '.join(distinct)})")
    return f"Runs differ in {'; '.join(lines)}." if lines else ""
