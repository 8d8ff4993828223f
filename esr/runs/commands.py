"""What every command line shares: options declared once, as a dataclass, and steps by name.

A field is an option, its docstring the help, its default the default::

    @dataclass(frozen=True)
    class Check:
        \"\"\"Read a model file.\"\"\"

        file: str = field(positional=True, metavar="FILE.toml")
        \"\"\"The file.\"\"\"

    STEPS = {"check": step(Check, lambda options: print(options.file), "python -m esr.models")}
    choose("python -m esr.models", STEPS)
"""

from __future__ import annotations

import os
import re
import sys
from argparse import SUPPRESS, Action, HelpFormatter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from simple_parsing import ArgumentParser, DashVariant

from esr.errors import UserError, run_command, unknown

OptionsT = TypeVar("OptionsT")

Step = Callable[[Sequence[str]], int]
"""Runs with the arguments after its name and returns the exit status."""

Groups = Mapping[str, Sequence[str]]
"""Title -> names of fields, in the order of the help; the first group has no title."""


def parse(
    options: type[OptionsT],
    program: str,
    argv: Sequence[str] | None = None,
    default: OptionsT | None = None,
) -> OptionsT:
    """Options from the command line.

    Args:
        options: a dataclass; its class attribute ``help_groups`` orders the help.
        program: as ``--help`` names it.
        argv: the arguments; those of the process where left out.
        default: values of options that are not given, where they differ from the class's.

    Raises:
        UserError: an option or a value that is not allowed.
    """
    parser = _Parser(
        prog=program,
        description=(options.__doc__ or "").splitlines()[0],
        add_option_string_dash_variants=DashVariant.DASH,
    )
    parser.groups = getattr(options, "help_groups", {})
    parser.add_arguments(options, dest="options", default=default)
    return parser.parse_args(argv).options  # type: ignore[no-any-return]


def step(
    options: type[OptionsT], run: Callable[[OptionsT], None], program: str, about: str = ""
) -> Step:
    """A step that parses its options and runs; errors end in one line and an exit status.

    Args:
        options: a dataclass.
        run: what the step does.
        program: as ``--help`` names the step.
        about: one line for the list of steps; that of ``options`` where left out.
    """

    def run_step(argv: Sequence[str]) -> int:
        return run_command(lambda: run(parse(options, program, argv)))

    run_step.__doc__ = about or options.__doc__
    return run_step


def choose(
    program: str,
    steps: Mapping[str, Step],
    default: str = "",
    argv: Sequence[str] | None = None,
    operands: Collection[str] = (),
) -> int:
    """Run the step that the first argument names.

    Args:
        program: as typed, for messages.
        steps: name -> step.
        default: the step where the first argument names none; a name is required where empty.
        argv: the command line's where left out.
        operands: what may stand first in place of a step, such as the keys of models; with a
            default, another word there is an unknown step.

    Returns:
        the exit status of the step.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in steps:
        return steps[arguments[0]](arguments[1:])
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: {program} {'[STEP]' if default else 'STEP'} [options]\n")
        for name, run_step in steps.items():
            about = (run_step.__doc__ or "").strip().splitlines()
            mark = " (default)" if name == default else ""
            print(f"  {name:24}{about[0] if about else ''}{mark}")
        print(f"\n{program} STEP --help lists the options of a step.")
        return 0
    word = arguments[0] if arguments else ""
    is_operand = not word or word.startswith("-") or word.endswith(".toml") or word in operands
    named = not (default and is_operand)
    late = [name for name in arguments[1:2] if name in steps]
    if not named and not late:
        return steps[default](arguments)
    error = UserError("no step is named", ", ".join(steps), f"{program} --help")
    if late:
        problem = f"the step {late[0]!r} stands after {word!r}"
        error = UserError(problem, "the step first", f"{program} {late[0]} {word}")
    elif word:
        what = "step or model" if default else "step"
        error = unknown(what, word, [*steps, *operands], f"{program} --help")
    print(f"error: {error}", file=sys.stderr)
    return 2


class _Parser(ArgumentParser):
    """Errors in one line; help in titled groups in place of one list under the class's name."""

    groups: Groups

    def error(self, message: str) -> NoReturn:
        """One line with what is allowed, which argparse leaves out, or words otherwise."""
        text = message.removeprefix("argument ")
        if match := re.fullmatch(r"unrecognized arguments: (.*)", text, re.DOTALL):
            options = [name for action in self._actions for name in action.option_strings]
            typed = match[1].split()[0].partition("=")[0]
            raise unknown("argument", typed, options, f"{self.prog} --help")
        if match := re.fullmatch(r"(\S+): invalid choice: '(.*)' \(choose from (.*)\)", text):
            raise self._not_among(match[1], match[2], match[3])
        # How simple_parsing says it of an option that takes several values.
        if match := re.fullmatch(r"(\S+): invalid typing\.Literal\[(.*)\] value: '(.*)'", text):
            raise self._not_among(match[1], match[3], match[2])
        for kind, allowed in (("int", "a whole number"), ("float", "a number")):
            if match := re.fullmatch(rf"(\S+): invalid {kind} value: (.*)", text, re.DOTALL):
                problem = f"{_option(match[1])} {match[2]}"
                raise UserError(problem, allowed, f"{self.prog} --help")
        allowed = "a value after it" if "expected" in text else "the options of --help"
        raise UserError(text, allowed, f"{self.prog} --help")

    def _not_among(self, option: str, typed: str, choices: str) -> UserError:
        """``choices`` as argparse lists them: quoted, with commas."""
        names = choices.replace("'", "").split(", ")
        return unknown(f"value of {_option(option)}:", typed, names, f"{self.prog} --help")

    def format_help(self) -> str:
        actions = {action.dest.rpartition(".")[2]: action for action in self._actions}
        positional = [name for name, action in actions.items() if not action.option_strings]
        groups: dict[str, Sequence[str]] = dict(self.groups) or {"": positional}
        listed = {"help", *(name for names in groups.values() for name in names)}
        rest = "this experiment" if self.groups else "options"
        groups[rest] = [name for name in actions if name not in listed]

        formatter = _Help(self.prog, max_help_position=26)
        words = [self.prog, *(_in_usage(actions[name]) for name in positional), "[options]"]
        formatter.add_usage(" ".join(words), [], [])
        formatter.add_text(self.description)
        for title, names in groups.items():
            formatter.start_section(title or SUPPRESS)
            formatter.add_arguments(actions[name] for name in names if name in actions)
            formatter.end_section()
        return formatter.format_help()


class _Help(HelpFormatter):
    """The default behind the help, where it says something that the help does not."""

    def _format_args(self, action: Action, default_metavar: str) -> str:
        # An option that may be None takes its value without brackets all the same.
        if action.option_strings and action.nargs == "?" and isinstance(action.metavar, str):
            return action.metavar
        return super()._format_args(action, default_metavar)

    def _get_help_string(self, action: Action) -> str:
        text, default = action.help or "", action.default
        if default is None or default is False or default in ("", (), [], SUPPRESS):
            return text
        if "default:" in text:
            return text
        values = default if isinstance(default, tuple | list) else [default]
        return f"{text} (default: {' '.join(map(_shown, values))})"


def _option(names: str) -> str:
    """The first of an option's spellings, ``--n-latents`` of ``--n-latents/--n_latents``."""
    return names.partition("/")[0]


def _in_usage(action: Action) -> str:
    name = action.metavar if isinstance(action.metavar, str) else action.dest.rpartition(".")[2]
    return f"[{name}]" if action.nargs in ("?", "*") else name


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    here = Path.cwd()
    if Path(str(value)).is_relative_to(here):
        return os.path.relpath(value, here)
    return str(value)
