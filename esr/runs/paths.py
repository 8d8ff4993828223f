"""Where things lie on disk."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DATA = REPOSITORY / "data"
ORGANISM = DATA / "organism"
RESULTS = DATA / "results"


def cache() -> Path:
    """Folder for what can be made again: SAE rows, verdicts, thresholds. ``ESR_CACHE`` moves it."""
    return Path(os.environ.get("ESR_CACHE") or DATA / "cache")
