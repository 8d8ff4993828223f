"""Where things lie on disk."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
"""A checkout; for an installed wheel, the folder of the installed packages."""

CHECKOUT = (REPOSITORY / "data" / "prompts").is_dir()

DATA = REPOSITORY / ("data" if CHECKOUT else "esr_data")
"""What comes with the code: prompts, rubric, organism, published numbers. Read only."""

HOME = REPOSITORY if CHECKOUT else Path.cwd()
"""Where ``.env`` is looked for and figures go."""

WORK = HOME / "data"
"""What commands write: results, caches, downloads."""

ORGANISM = DATA / "organism"
RESULTS = WORK / "results"


def cache() -> Path:
    """Folder for what can be made again: SAE rows, verdicts, thresholds. ``ESR_CACHE`` moves it."""
    return Path(os.environ.get("ESR_CACHE") or WORK / "cache")
