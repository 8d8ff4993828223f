"""Numeric options with bounds: declared at the field, checked in one place."""

from __future__ import annotations

import math
import operator
from dataclasses import MISSING, Field, fields
from typing import Any

from simple_parsing import field

from esr.errors import UserError

LARGEST = 10**9
"""A number with bounds has this one above, where it has no other."""

_TESTS = {
    "ge": (operator.ge, "{:,g} or more".format),
    "gt": (operator.gt, "above {:,g}".format),
    "le": (operator.le, "at most {:,}".format),
    "lt": (operator.lt, "below {:,g}".format),
}
"""Name of a bound -> what a value must be to it, and how that is said."""


def bounded(default: Any, *, identity: bool = True, **options: Any) -> Any:
    """A field for a number, or a tuple of numbers, each within bounds.

    Args:
        default: of the option.
        identity: False for a setting that cannot change a result.
        **options: the bounds ``ge``, ``gt``, ``le``, ``lt``; the rest goes to the option parser.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Options:
        ...     share: float = bounded(0.5, gt=0, le=1, metavar="SHARE")
        >>> check(Options(share=float("nan")))
        Traceback (most recent call last):
        esr.errors.UserError: --share nan; allowed: above 0, at most 1; next: --share 0.5
    """
    bounds = {name: options.pop(name) for name in _TESTS if name in options}
    return field(default=default, metadata={"identity": identity, "bounds": bounds}, **options)


def check(settings: Any) -> None:
    """Refuse a number outside its bounds; none may be NaN or infinite.

    Args:
        settings: a dataclass; a field is the option of its name.

    Raises:
        UserError: names option, value, bounds, and a value to type.
    """
    for item in fields(settings):
        value = getattr(settings, item.name)
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, int | float):
                continue
            bounds = item.metadata.get("bounds", {})
            fine = all(_TESTS[name][0](number, bound) for name, bound in bounds.items())
            if not fine or (isinstance(number, float) and not math.isfinite(number)):
                raise _refusal(item, value, bounds)
            if bounds and number > LARGEST:
                raise _refusal(item, value, {"le": LARGEST})


def _refusal(item: Field[Any], value: Any, bounds: dict[str, float]) -> UserError:
    option = "--" + item.name.replace("_", "-")
    order = [name for name in _TESTS if name in bounds]
    allowed = ", ".join(_TESTS[name][1](bounds[name]) for name in order)
    default = None if item.default in (MISSING, ()) else item.default
    suggested = bounds[order[0]] if default is None and order else default
    return UserError(
        f"{option} {_typed(value)}", allowed or "a finite number", f"{option} {_typed(suggested)}"
    )


def _typed(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_typed, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
