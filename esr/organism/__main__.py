"""``python -m esr.organism build|weaken|gates``."""

from esr.organism.commands import main

raise SystemExit(main())
