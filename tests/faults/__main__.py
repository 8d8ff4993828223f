"""``python -m tests.faults [--faults N] [--seed N] [--workers N] [--write]``."""

from tests.faults.commands import main

raise SystemExit(main())
