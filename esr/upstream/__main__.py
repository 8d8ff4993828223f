"""``python -m esr.upstream fetch|labels``."""

from esr.upstream.commands import main

raise SystemExit(main())
