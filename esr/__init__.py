"""ESR: endogenous steering resistance, measured (arXiv 2602.06941).

What a script of your own needs can be imported from here; each name is loaded on first use, so
that ``import esr`` costs nothing. The README has an example.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esr.engine import VllmOptions
    from esr.engine import create as create_engine
    from esr.engine.base import Generation, GenerationRequest, Reading, ReadRequest, Sampling
    from esr.errors import UserError
    from esr.models import ModelSpec
    from esr.models import get as get_model
    from esr.models.chat import load as load_chat
    from esr.steering.interventions import Boost, Clamp, Row, Scale, Slot
    from esr.steering.operators import Steer
    from esr.steering.sae import load as load_sae

__version__ = "0.1.0"

if sys.version_info < (3, 11) or any(find_spec(n) is None for n in ("simple_parsing", "torch")):
    # Before anything of ours is imported: a list of missing modules helps nobody.
    raise SystemExit(
        f"error: {sys.executable} (Python {sys.version.split()[0]}) has not the packages of this "
        "repository; allowed: Python 3.11 to 3.13 with requirements.txt or requirements-cpu.txt "
        "installed; next: source .venv/bin/activate, or .venv/bin/python in place of python"
    )

__all__ = [
    "Boost",
    "Clamp",
    "Generation",
    "GenerationRequest",
    "ModelSpec",
    "ReadRequest",
    "Reading",
    "Row",
    "Sampling",
    "Scale",
    "Slot",
    "Steer",
    "UserError",
    "VllmOptions",
    "create_engine",
    "get_model",
    "load_chat",
    "load_sae",
]

_HOMES = {
    **dict.fromkeys(("Boost", "Clamp", "Row", "Scale", "Slot"), "esr.steering.interventions"),
    **dict.fromkeys(
        ("Generation", "GenerationRequest", "ReadRequest", "Reading", "Sampling"),
        "esr.engine.base",
    ),
    "Steer": "esr.steering.operators",
    "UserError": "esr.errors",
    "ModelSpec": "esr.models",
    "VllmOptions": "esr.engine",
    "create_engine": "esr.engine:create",
    "get_model": "esr.models:get",
    "load_chat": "esr.models.chat:load",
    "load_sae": "esr.steering.sae:load",
}
"""Name here -> module, and the name there where it is another."""


def __getattr__(name: str) -> Any:
    """A name of :data:`__all__`, from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'esr' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(module), attribute or name)
