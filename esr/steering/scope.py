"""Which positions of a text an intervention changes.

A text is a prompt, perhaps a *given prefix* of the response (assistant tokens that are given, not
generated), and what the model generates:

    scope            prompt   given prefix   generated
    ---------------  -------  -------------  ------------------------------
    all              yes      yes            yes
    prompt           yes      no             no
    prefix           yes      yes            no
    generated        no       yes            yes
    after prefix     no       no             yes
    until N          yes      the first N tokens of the response, prefix included

Steering a position changes what the model writes into its cache there, and which token it
predicts next; so the first generated token is predicted at the last position of what was given.
"""

from __future__ import annotations

import re

from esr.errors import UserError

Scope = str
"""One of :data:`SCOPES`, or ``until N``."""

SCOPES = ("all", "prompt", "prefix", "generated", "after prefix")

END = 2**31 - 1
"""A position that no text reaches."""

_UNTIL = re.compile(r"until (\d{1,9})")


def check_scope(scope: Scope) -> None:
    """Refuse what is no scope.

    Raises:
        UserError: not one of :data:`SCOPES`, nor ``until N``.
    """
    if scope not in SCOPES and not _UNTIL.fullmatch(str(scope)):
        raise UserError(
            f"unknown scope {scope!r}", f"{', '.join(SCOPES)}, until N", "correct the scope"
        )


def positions(scope: Scope, n_prompt: int, n_prefix: int = 0) -> tuple[int, int]:
    """The positions of a scope in one text: (first, one past the last).

    Args:
        scope: a checked scope.
        n_prompt: tokens of the prompt.
        n_prefix: tokens of the given prefix.
    """
    if until := _UNTIL.fullmatch(scope):
        return 0, n_prompt + int(until[1])
    return {
        "all": (0, END),
        "prompt": (0, n_prompt),
        "prefix": (0, n_prompt + n_prefix),
        "generated": (n_prompt, END),
        "after prefix": (n_prompt + n_prefix, END),
    }[scope]


def overlap(one: Scope, other: Scope) -> bool:
    """Whether two scopes can have a position in common, whatever the text."""
    halves = ({"prompt", "generated"}, {"prompt", "after prefix"}, {"prefix", "after prefix"})
    return {one, other} not in halves
