"""Every figure that has data, every number of the paper beside ours, and a page to read them in.

python plotting/plot_all.py [--results PATH ...] [--model KEY] [--judge ID]
                            [--exclude-degraded] [--output DIR]
"""

from __future__ import annotations

import argparse
import importlib
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from esr.errors import UserError
from plotting import paper_numbers, runfiles
from plotting.measured import measure
from plotting.paper_numbers import add_selection
from plotting.published import compare
from plotting.report import page
from plotting.report.page import Figure, Missing
from plotting.runfiles import PACKAGES, RunFile

FAILED = "not drawn:"

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Script:
    """One plotting module: ``main(argv)`` draws and returns 0, 1 without data, 2 on bad input.

    Attributes:
        experiment: number.
        title: what it shows.
        paper: figures of the paper.
        command: what makes its data.
        each: title and figure of the paper by file name, where one module draws several.
    """

    experiment: int
    title: str
    paper: str
    command: str
    each: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """Its name."""
        return f"plotting.plot_exp{self.experiment}"

    @property
    def main(self) -> Main:
        """The module's command, imported when it is needed."""
        found: Main = importlib.import_module(self.module).main
        return found


SCRIPTS = (
    Script(1, "ESR across models", "Figure 2", "python -m experiment_01_esr tiny"),
    Script(2, "Boost-level sweep", "Figure 3", "python -m experiment_02_multi_boost tiny"),
    Script(
        *(3, "Ablation of off-topic detectors", "Figure 5"),
        "python -m experiment_03_off_topic_detectors find tiny, then the same with ablate",
    ),
    Script(4, "Fine-tuning", "Figure 6", "python -m experiment_04_finetuning tiny-base"),
    Script(5, "Meta-prompts", "Figure 4", "python -m experiment_05_prompt_variants tiny"),
    Script(
        *(6, "Sequential activations", "Figure 7"),
        "python -m experiment_06_sequential_activations tiny",
    ),
    Script(
        *(7, "Cross-judge validation", "Figures A.4 to A.6"),
        "python -m experiment_07_cross_judge",
        {
            "exp7_rates": ("Rates by judge", "Figure A.4"),
            "exp7_scores": ("Scores of two judges", "Figure A.5"),
            "exp7_agreement": ("Agreement of judges", "Figure A.6"),
        },
    ),
    Script(
        *(8, "No steering", "Figures A.2 and A.3"),
        "python -m experiment_08_no_steering_baseline tiny",
    ),
    Script(
        *(9, "Activation statistics", "Figures A.15 and A.16"),
        "python experiment_09_activation_stats/run_activation_stats.py all",
    ),
    Script(
        *(10, "Random-latent control", "Figure A.14"),
        "python -m experiment_10_random_latent_control run-random tiny",
    ),
)


def draw_all(
    runs: Sequence[RunFile], output: Path, exclude_degraded: bool
) -> tuple[list[Figure], list[Missing]]:
    """Draw every script's figures of the given runs into ``output``; empty ones are not kept."""
    figures: list[Figure] = []
    missing: list[Missing] = []
    bar = tqdm(SCRIPTS, desc="figures", unit="script", leave=False)
    for script in bar:
        bar.set_postfix_str(script.title)
        with chosen(runs, script) as results, tempfile.TemporaryDirectory() as folder:
            reason, note = _draw(script, results, Path(folder), exclude_degraded)
            if reason:
                missing.append(Missing(script.title, script.paper, reason, script.command))
                continue
            for picture in sorted(Path(folder).glob("*.png")):
                for file in Path(folder).glob(f"{picture.stem}.*"):
                    shutil.move(file, output / file.name)
                title, paper = script.each.get(picture.stem, (script.title, script.paper))
                figures.append(Figure(picture.stem, title, paper, script.experiment, note))
    return figures, missing


def _draw(
    script: Script, results: Sequence[Path], folder: Path, exclude_degraded: bool
) -> tuple[str, str]:
    """Why nothing was drawn, empty where something was; and what must be said of the figures."""
    given = ["--results", *map(str, results), "--output", str(folder)]
    said = io.StringIO()
    try:
        main = script.main
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            status, note = _status(main, given, exclude_degraded)
    except ModuleNotFoundError as error:
        if error.name != script.module:
            raise
        return "there is no script for it.", ""
    except Exception as error:
        # One figure that fails must not cost the others; the exit status tells.
        return f"{FAILED} {type(error).__name__}: {error}.", ""
    told = [line for line in said.getvalue().splitlines() if line.strip()]
    if status == 0:
        return "", note
    return "no complete run." if status == 1 or not told else f"{FAILED} {told[-1]}.", ""


def _status(main: Main, given: list[str], exclude_degraded: bool) -> tuple[int, str]:
    """Exit status, and a note where the script does not know how to leave responses out."""
    if not exclude_degraded:
        return main(given), ""
    try:
        return main([*given, "--exclude-degraded"]), ""
    except SystemExit:
        return main(given), "All responses are drawn, degraded ones included."


@contextmanager
def chosen(runs: Sequence[RunFile], script: Script) -> Iterator[list[Path]]:
    """A results folder of links to the chosen runs, and the authors' files for this script."""
    with tempfile.TemporaryDirectory() as folder:
        for run in runs:
            if not run.theirs and run.experiment:
                place = Path(folder) / PACKAGES[run.experiment] / run.model / run.path.name
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    place.symlink_to(run.path.resolve(), target_is_directory=True)
        theirs = [r.path for r in runs if r.theirs and r.experiment == script.experiment]
        yield [Path(folder), *theirs]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, compare, write the page; 0 if anything was drawn, 1 if nothing, 2 on an error."""
    parser = argparse.ArgumentParser(prog="plot_all.py", description=__doc__.splitlines()[0])
    add_selection(parser)
    options = parser.parse_args(argv)
    try:
        runs = runfiles.find(options.results, options.model, options.judge)
        rows = compare(measure(runs, options.exclude_degraded))
        paper_numbers.write(rows, options.output)
        figures, missing = draw_all(runs, options.output, options.exclude_degraded)
        made = page.write(options.output, runs, rows, figures, missing, options.exclude_degraded)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(paper_numbers.terminal(rows))
    for figure in figures:
        print(f"{figure.paper}, {figure.title}: {options.output / figure.name}.png, .pdf, .csv")
    for item in missing:
        print(f"{item.paper}, {item.title}: {item.reason} Next: {item.command}")
    print(f"page: {made}")
    if any(item.reason.startswith(FAILED) for item in missing):
        return 2
    return 0 if figures else 1


if __name__ == "__main__":
    sys.exit(main())
