"""``python -m esr.models list|check|suggest-prior``."""

from esr.models.commands import main

raise SystemExit(main())
