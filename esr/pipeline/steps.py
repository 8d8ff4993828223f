"""Commands of several steps: the first argument names the step."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

Step = Callable[[Sequence[str]], int]


def choose(
    program: str, steps: Mapping[str, Step], default: str, argv: Sequence[str] | None = None
) -> int:
    """Run the step that the first argument names.

    Args:
        program: as typed, for messages.
        steps: name -> what runs it, given the other arguments; returns the exit status.
        default: the step where the first argument names none.
        argv: the command line's where left out.

    Returns:
        the exit status of the step.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in steps:
        return steps[arguments[0]](arguments[1:])
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: {program} [STEP] [MODEL] [options]\n")
        for name, step in steps.items():
            told = (step.__doc__ or "").strip().splitlines()
            mark = " (default)" if name == default else ""
            print(f"  {name:24}{told[0] if told else ''}{mark}")
        print(f"\n{program} STEP --help lists the options of a step.")
        return 0
    return steps[default](arguments)
