"""Every figure that has data, every number of the paper beside ours, and a page to read them in.

python plotting/plot_all.py [--results PATH ...] [--run PATH ...] [--model KEY] [--judge ID]
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

from esr.errors import UserError
from esr.runs import progress
from plotting import paper_numbers
from plotting.command import EXCLUDE_DEGRADED, add_options
from plotting.measured import measure
from plotting.published import compare
from plotting.report import page
from plotting.report.page import Figure, Missing
from plotting.selection import find, split_paths

FAILED = "not drawn:"
NOTICE = "warning: "
"""How lines begin that say which runs are not shown."""

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
        command: Main = importlib.import_module(self.module).main
        return command


SCRIPTS = (
    Script(1, "ESR across models", "Figure 2", "python -m experiment_01_esr tiny"),
    Script(2, "Boost-level sweep", "Figure 3", "python -m experiment_02_multi_boost tiny"),
    Script(
        *(3, "Ablation of off-topic detectors", "Figure 5"),
        "python -m experiment_03_off_topic_detectors find tiny, then the same with ablate",
        {"exp3_known_answer": ("With and without a circuit", "no figure of the paper")},
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
    Script(
        *(11, "Resistance controls", "Ours"),
        "python -m experiment_11_resistance_controls tiny",
    ),
    Script(
        *(12, "Steering operators", "Ours"),
        "python -m experiment_12_steering_operators tiny",
        {
            "exp12_layers": ("Operators by layer", "Ours"),
            "exp12_defence": ("Defence against a boost", "Ours"),
        },
    ),
    Script(
        *(13, "Pairing fault", "Ours"),
        "python -m experiment_13_pairing_fault tiny",
    ),
)


def _shown(scripts: Sequence[Script]) -> Iterator[Script]:
    """The scripts, on a bar that names the one at work."""
    with progress.bar(len(scripts), "figures", "script") as bar:
        for script in scripts:
            bar.set_postfix_str(script.title)
            yield script
            bar.update()


def draw_all(
    given: Sequence[str], roots: Sequence[Path], output: Path, exclude_degraded: bool
) -> tuple[list[Figure], list[Missing], list[str]]:
    """Draw every script's figures into ``output``; empty ones are not kept.

    Args:
        given: options of the scripts that choose runs, without ``--results``.
        roots: results folders; without any, only what ``given`` names is drawn.
        output: folder of the figures.
        exclude_degraded: leave out responses that repeat a word.

    Returns:
        figures, what is missing, and what the scripts said on the error stream.
    """
    figures: list[Figure] = []
    missing: list[Missing] = []
    lines: list[str] = []
    for script in _shown(SCRIPTS):
        with tempfile.TemporaryDirectory() as folder:
            # Without a results folder, an empty one: the scripts would look into data/results.
            where = [str(root) for root in roots or [Path(folder)]]
            arguments = [*given, "--results", *where, "--output", folder]
            reason, note, said = _draw(script, arguments, exclude_degraded)
            lines += said
            if reason:
                missing.append(Missing(script.title, script.paper, reason, script.command))
                continue
            for picture in sorted(Path(folder).glob("*.png")):
                for file in Path(folder).glob(f"{picture.stem}.*"):
                    shutil.move(file, output / file.name)
                title, paper = script.each.get(picture.stem, (script.title, script.paper))
                figures.append(Figure(picture.stem, title, paper, script.experiment, note))
    return figures, missing, lines


def _draw(
    script: Script, arguments: list[str], exclude_degraded: bool
) -> tuple[str, str, list[str]]:
    """Why nothing was drawn, empty where something was; what must be said of the figures; and
    what the script said."""
    with _quiet() as said:
        try:
            status, note = _status(script.main, arguments, exclude_degraded)
        except Exception as error:
            # One figure that fails must not cost the others; the exit status tells.
            return f"{FAILED} {type(error).__name__}: {error}.", "", said
    reasons = {0: "", 1: "no complete run."}
    return reasons.get(status, f"{FAILED} {(said or ['no reason given'])[-1]}."), note, said


def _status(main: Main, arguments: list[str], exclude_degraded: bool) -> tuple[int, str]:
    """Exit status, and a note where the script does not know how to leave responses out."""
    if not exclude_degraded:
        return main(arguments), ""
    try:
        return main([*arguments, "--exclude-degraded"]), ""
    except SystemExit:
        return main(arguments), "All responses are drawn, degraded ones included."


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep standard output away, and collect the lines of the error stream."""
    lines: list[str] = []
    said = io.StringIO()
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            yield lines
    finally:
        lines += filter(str.strip, said.getvalue().splitlines())


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, compare, write the page; 0 if anything was drawn, 1 if nothing, 2 on an error."""
    parser = argparse.ArgumentParser(prog="plot_all.py", description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--exclude-degraded", action="store_true", help=EXCLUDE_DEGRADED)
    options = parser.parse_args(argv)
    degraded: bool = options.exclude_degraded
    try:
        with _quiet() as said:
            sources = find(options.results, options.model, options.judge, options.run)
            rows = compare(measure(sources, degraded))
        paper_numbers.write(rows, options.output)
        named, roots = split_paths(options.results)
        given = ["--model", options.model, "--judge", options.judge]
        given += ["--run", *map(str, [*named, *options.run])] if named or options.run else []
        figures, missing, lines = draw_all(given, roots, options.output, degraded)
        notices = [x for x in dict.fromkeys([*said, *lines]) if x.startswith(NOTICE)]
        written = page.write(options.output, sources, rows, figures, missing, degraded, notices)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("".join(f"{line}\n" for line in notices), end="", file=sys.stderr)
    print(paper_numbers.terminal(rows))
    for figure in figures:
        print(f"{figure.paper}, {figure.title}: {options.output / figure.name}.png, .pdf, .csv")
    for item in missing:
        print(f"{item.paper}, {item.title}: {item.reason} Next: {item.command}")
    print(f"page: {written}")
    if any(item.reason.startswith(FAILED) for item in missing):
        return 2
    return 0 if figures else 1


if __name__ == "__main__":
    sys.exit(main())
