"""Which of the runs on disk an experiment builds on: the newest whose settings are the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from esr.errors import UserError
from esr.models.identity import unresolved
from esr.runs.folder import find_runs, read_run, warn
from esr.runs.run_metadata import RunMetadata
from esr.runs.same_settings import (
    DEFAULTS,
    SIZES,
    as_options,
    differing_settings,
    non_default_settings,
)


@dataclass(frozen=True)
class Candidates:
    """Complete runs of an experiment, of which one is to be built on.

    Attributes:
        output: the results folder.
        experiment: whose runs.
        wanted: model and settings; see :func:`esr.runs.same_settings.differing_settings`.
        option: of the command line, which names a run whatever its settings.
        command: that makes such a run, without the model.
        file: what the run must hold, and what the option names: the folder where left out.
    """

    output: Path
    experiment: str
    wanted: RunMetadata
    option: str
    command: str
    file: str = ""

    def newest(self) -> Path | None:
        """The newest that agrees with what is wanted.

        A newer one that does not is passed over, with a line that says why.
        """
        passed_over = ""
        for path, difference in self._all():
            if not difference:
                if passed_over:
                    warn(f"{passed_over}; {path} is taken")
                return path
            passed_over = passed_over or (
                f"{path} is passed over: {difference}; {self.option} {path / self.file} names it"
            )
        if passed_over:
            warn(passed_over)
        return None

    def none(self) -> UserError:
        """Why there is no :meth:`newest`, in one line."""
        changed = non_default_settings(self.wanted.updated(experiment=self.experiment))
        options = as_options({k: v for k, v in changed.items() if k not in SIZES})
        command = f"{self.command} {self.wanted.model}{options and ' ' + options}"
        problem = f"no complete run of {self.experiment} for {self.wanted.model} in {self.output}"
        for path, difference in self._all():
            return UserError(
                f"{problem} has the settings of this command ({path}: {difference})",
                "the same model, profile, prompts, filter, judge and pairing, or a run by its path",
                f"{command}, or {self.option} {path / self.file}",
            )
        return UserError(problem, "a run, or a file", f"{command}, or {self.option} PATH")

    def _all(self) -> Iterator[tuple[Path, str]]:
        """Newest first, each with where it differs; empty where it agrees."""
        for path in find_runs(self.output, self.experiment, self.wanted.model):
            run = read_run(path)
            if run.status == "complete" and (path / (self.file or "results.json")).is_file():
                yield path, _difference(run, self.wanted)


def _difference(run: RunMetadata, wanted: RunMetadata) -> str:
    """Where two runs differ, options as they are typed first: ``its --profile is release, here
    paper``; two differences, and how many more there are.
    """
    unknown = {f"model.{name}" for name in unresolved(wanted.context.get("model", {}))}
    differing = differing_settings(run, wanted)
    resolved = {name: values for name, values in differing.items() if name not in unknown}
    if not resolved:
        return ""
    ours = wanted.identity
    theirs = {**DEFAULTS, **run.config, **run.identity}
    typed = {
        f"--{name.replace('_', '-')}": (theirs.get(name), ours[name])
        for name in (*DEFAULTS, *SIZES)
        if name in ours and theirs.get(name) != ours[name]
    }
    said = [
        f"its {name} is {_short(a)}, here {_short(b)}"
        for name, (a, b) in list((typed or resolved).items())[:2]
    ]
    more = len(typed or resolved) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _short(value: object) -> str:
    text = "the default" if value in (None, "") else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
