"""``python -m esr.upstream fetch|labels|slides``."""

from esr.upstream.commands import main

raise SystemExit(main())
