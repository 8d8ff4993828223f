"""``python -m esr.runs show`` and ``check``: what run folders hold, and whether it is whole.

Both only read. They need no key, no engine and no judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simple_parsing import field

from esr.errors import UserError, run_command
from esr.runs import commands
from esr.runs.folder import read_run
from esr.runs.journal import Content, read_journal
from esr.runs.plain import file_digest, json_digest
from esr.runs.results import read_results
from esr.runs.run_metadata import RunMetadata
from esr.runs.same_settings import as_options, non_default_settings

PROGRAM = "python -m esr.runs"
FILES = ("run.json", "journal.jsonl")
"""What makes a folder a run folder."""

ANSWERED = ("graded", "no_attempts")
"""Statuses of a verdict that is an answer."""


@dataclass(frozen=True)
class ShowOptions:
    """What a run is, how it stands, what it holds and has cost."""

    folder: str = field(positional=True, metavar="FOLDER")
    """A run folder, or one with run folders below it."""


@dataclass(frozen=True)
class CheckOptions:
    """Whether run folders hold what was written; exit status 1 where one does not."""

    folder: str = field(positional=True, metavar="FOLDER")
    """A run folder, or one with run folders below it."""


def run_folders(folder: Path) -> list[Path]:
    """The folder itself where it is a run's, else all below it, by name.

    Raises:
        UserError: there is none.
    """
    if any((folder / name).exists() for name in FILES):
        return [folder]
    found = sorted({file.parent for name in FILES for file in folder.glob(f"**/{name}")})
    if not found:
        raise UserError(
            f"no run in {folder}",
            "a folder with run.json, or one with such folders below it",
            "ls data/results/*/*",
        )
    return found


def show(folder: Path) -> str:
    """One run in a few lines."""
    journal = read_journal(folder / "journal.jsonl")
    rows: list[tuple[str, str]] = []
    try:
        run = read_run(folder)
    except UserError as error:
        rows.append(("damaged", error.problem))
    else:
        rows += _about(run)
    rows += _counts(journal)
    rows += [("damaged", line) for line in _damage_of_lines(folder, journal)]
    return "\n".join([str(folder), *(f"  {name:11}{text}" for name, text in rows)])


def _about(run: RunMetadata) -> Iterator[tuple[str, str]]:
    error = f": {run.error}" if run.error else ""
    yield "run", f"{run.experiment} of {run.title or run.model} ({run.model})"
    yield "status", f"{run.status or 'not started'}{error}"
    settings = non_default_settings(run)
    yield "settings", as_options(settings) or "all as they are by default"
    for number, start in enumerate(run.starts(), 1):
        yield f"start {number}", _start(start)
    if run.ended:
        yield "ended", run.ended
    yield "spend", f"${run.spend:.4f}"


def _start(start: Mapping[str, Any]) -> str:
    git = start.get("git") or {}
    changes = ", with changes" if git.get("dirty") else ""
    commit = f"commit {str(git.get('commit') or 'unknown')[:12]}{changes}"
    return f"{start.get('time', '')} {commit}: {' '.join(start.get('argv', []))}"


def _counts(journal: Content) -> Iterator[tuple[str, str]]:
    """What the journal holds: responses by arm, verdicts by status, the rest by kind."""
    last = {(line.kind, line.key): line.value for line in journal.lines}
    kinds: dict[str, Counter[str]] = {"generation": Counter(), "verdict": Counter()}
    others: Counter[str] = Counter()
    for (kind, _), value in last.items():
        entry = value if isinstance(value, Mapping) else {}
        if kind == "generation":
            kinds[kind][str((entry.get("spec") or {}).get("arm"))] += 1
        elif kind == "verdict":
            kinds[kind][str(entry.get("status"))] += 1
        else:
            others[kind] += 1
    for name, title in (("generation", "responses"), ("verdict", "verdicts")):
        if total := kinds[name].total():
            parts = ", ".join(f"{count} {part}" for part, count in kinds[name].items())
            yield title, f"{total:,}: {parts}"
    failed = {status: n for status, n in kinds["verdict"].items() if status not in ANSWERED}
    if failed:
        yield "failed", f"{sum(failed.values())} verdicts; repeat the run's command to ask again"
    if others:
        yield "also", ", ".join(f"{count} {kind}" for kind, count in others.items())


def damages(folder: Path) -> list[str]:
    """One line for each thing in a run folder that is not what was written."""
    journal = read_journal(folder / "journal.jsonl")
    lines = _damage_of_lines(folder, journal)
    run = None
    try:
        run = read_run(folder)
    except UserError as error:
        lines.append(error.problem)
    complete = run is not None and run.status == "complete"
    if complete and journal.torn:
        lines.append(f"{folder / 'journal.jsonl'}: the last line of a complete run is torn")
    file = folder / "results.json"
    if file.is_file():
        try:
            lines += _unlike_the_journal(file, read_results(file).raw, journal)
        except UserError as error:
            lines.append(error.problem)
    if complete and run is not None and run.results_digest:
        if not file.is_file():
            lines.append(f"{file} is missing from a complete run")
        elif file_digest(file) != run.results_digest:
            lines.append(f"{file} is not the file that the run was completed with")
    return lines + [line for path in folder.glob("reads/*.safetensors") if (line := _reading(path))]


def _damage_of_lines(folder: Path, journal: Content) -> list[str]:
    lines = [journal.damage(folder / "journal.jsonl")]
    lines += [read_journal(path).damage(path) for path in sorted(folder.glob("batches*.jsonl"))]
    return [line for line in lines if line]


def _unlike_the_journal(file: Path, results: Mapping[str, Any], journal: Content) -> list[str]:
    """Trials whose response or scores are not the journal's; foreign ones have no spec."""
    entries = {(line.kind, line.key): line.value for line in journal.lines}
    lines = []
    for feature in results["results_by_feature"]:
        for trial in feature.get("trials") or []:
            if not trial.get("spec") or trial.get("response") is None:
                continue
            key = json_digest(trial["spec"], 20)
            generation = entries.get(("generation", key))
            problem = _problem(trial, generation, entries.get(("verdict", key)))
            if problem:
                lines.append(f"{file}: trial {trial.get('trial_id')} {problem}")
    return lines


def _problem(trial: Mapping[str, Any], generation: Any, verdict: Any) -> str:
    if not isinstance(generation, Mapping):
        return "is not in the journal"
    if generation.get("text") != trial["response"]:
        return "has another response than the journal"
    score = trial.get("score")
    if score is None or "status" not in score:
        return ""
    if not isinstance(verdict, Mapping):
        return "has a verdict that is not in the journal"
    judged = {name: score.get(name) for name in ("status", "raw_response")}
    recorded = {"status": verdict.get("status"), "raw_response": verdict.get("raw")}
    return (
        ""
        if (judged, _scores(score)) == (recorded, _scores(verdict))
        else ("has another verdict than the journal")
    )


def _scores(judged: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(a.get("attempt_text"), a.get("score")) for a in judged.get("attempts") or []]


def _reading(path: Path) -> str:
    """What is wrong with a reading, in one line; empty where nothing is."""
    from safetensors import SafetensorError, safe_open

    from esr.runs.entries import crc_of

    try:
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            crc = (file.metadata() or {}).get("crc", "")
    except (OSError, SafetensorError) as error:
        return f"{path} is damaged ({error})"
    return f"{path} is damaged (its CRC differs)" if crc not in ("", crc_of(tensors)) else ""


def show_all(options: ShowOptions) -> None:
    """Print every run of a folder."""
    print("\n\n".join(show(folder) for folder in run_folders(Path(options.folder))))


def check_all(options: CheckOptions) -> int:
    """Print the damage of every run of a folder; the exit status."""
    folders = run_folders(Path(options.folder))
    lines = [line for folder in folders for line in damages(folder)]
    print("\n".join([*lines, f"runs: {len(folders)}, damages: {len(lines)}"]))
    return 1 if lines else 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""

    def check(arguments: Sequence[str]) -> int:
        status = 0

        def command() -> None:
            nonlocal status
            status = check_all(commands.parse(CheckOptions, f"{PROGRAM} check", arguments))

        return run_command(command) or status

    check.__doc__ = CheckOptions.__doc__
    steps = {"show": commands.step(ShowOptions, show_all, f"{PROGRAM} show"), "check": check}
    return commands.choose(PROGRAM, steps, argv=argv)
