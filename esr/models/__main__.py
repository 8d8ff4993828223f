"""``python -m esr.models list|check|suggest-prior``."""

from esr.judge import resolve
from esr.models.commands import main

raise SystemExit(main(resolve))
