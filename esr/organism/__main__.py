"""``python -m esr.organism build|gates``."""

from esr.organism.commands import main

raise SystemExit(main())
