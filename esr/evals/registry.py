"""What Inspect finds by the entry point of ``pyproject.toml``: provider, task, solver, scorer."""

from __future__ import annotations

from esr.evals.provider import provider
from esr.evals.scorer import attempts
from esr.evals.tasks import esr, steered

__all__ = ["attempts", "esr", "provider", "steered"]
