"""Which files one prompt passes, from the command line to a bar of figure 1: measured.

``python -m tests.trace_prompt`` runs experiment 1 on the embedded model with the transformers
engine and the offline judge, draws figure 1, and prints every file of ``esr/``, the experiment and
``plotting/`` of which a named function ran on the prompt's own trip: from the making of its trial
to the table in the terminal, then the whole figure script. What comes before (options, filter,
calibration) and the closing of the engine are not part of it. ``--write`` puts the list into
docs/architecture.md.
"""

from __future__ import annotations

import inspect
import sys
import tempfile
import threading
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import FrameType

from tests.test_architecture import ROOT, purpose, write_block

ROOMS = tuple(str(ROOT / name) for name in ("esr", "experiment_01_esr", "plotting"))
FIRST, LAST = "at_threshold", "show"
"""Functions between whose call and return the experiment's part of the trip lies."""

COMMAND = ("tiny", "--engine", "transformers", "--n-latents", "2", "--n-trials", "1")


class Trip:
    """Records the named functions that run, in every thread.

    Attributes:
        functions: (file, qualified name) in the order of their first call.
        recording: whether calls are recorded now.
    """

    def __init__(self) -> None:
        self.functions: dict[tuple[str, str], None] = {}
        self.recording = False

    def profile(self, frame: FrameType, event: str, _: object) -> None:
        """For :func:`sys.setprofile`."""
        code = frame.f_code
        if not code.co_filename.startswith(ROOMS):
            return
        if event == "call":
            self.recording = self.recording or code.co_name == FIRST
            is_function = code.co_flags & inspect.CO_OPTIMIZED
            if self.recording and is_function and not code.co_name.startswith("<"):
                file = str(Path(code.co_filename).relative_to(ROOT))
                self.functions.setdefault((file, code.co_qualname))
        elif event == "return" and code.co_name == LAST:
            self.recording = False

    def files(self) -> list[str]:
        """In the order of their first call."""
        return list(dict.fromkeys(file for file, _ in self.functions))


def trip(folder: Path) -> Trip:
    """Run both commands, with results and figures under ``folder``."""
    from esr.pipeline.experiment import main
    from experiment_01_esr.run import EXPERIMENT
    from plotting import plot_exp1

    result = Trip()
    threading.setprofile(result.profile)
    sys.setprofile(result.profile)
    try:
        with redirect_stdout(StringIO()):
            assert main(EXPERIMENT, [*COMMAND, "--output", str(folder / "results")]) == 0
            run = next((folder / "results").glob("*/*/*/results.json")).parent
            result.recording = True
            options = ["--results", str(run), "--output", str(folder / "figures")]
            assert plot_exp1.main(options) == 0
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return result


def listed(files: list[str]) -> str:
    """The numbered list of docs/architecture.md: each file with the first sentence it says."""
    names = [file.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for file in files]
    lines = [
        f"{number}. `{file}`: {purpose(name)}"
        for number, (file, name) in enumerate(zip(files, names, strict=True), 1)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        measured = trip(Path(scratch))
    print(listed(measured.files()))
    print(f"{len(measured.files())} files, {len(measured.functions)} functions")
    if "--write" in sys.argv[1:]:
        write_block("trip", listed(measured.files()))
