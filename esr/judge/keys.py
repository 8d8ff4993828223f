"""Keys of the providers: from the environment, else from ``.env``; written nowhere."""

from __future__ import annotations

import os
from pathlib import Path

from esr.runs.paths import HOME


def env_file() -> Path:
    """Where keys are looked for after the environment; ``ESR_ENV_FILE`` names another file."""
    return Path(os.environ.get("ESR_ENV_FILE", HOME / ".env"))


def find(variable: str) -> str:
    """A key; empty where there is none. What ``.env`` holds stays out of the environment."""
    from dotenv import dotenv_values

    value = os.environ.get(variable)
    if not value and env_file().is_file():
        value = dotenv_values(env_file()).get(variable)
    return (value or "").strip()
