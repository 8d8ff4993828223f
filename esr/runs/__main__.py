"""``python -m esr.runs show|check FOLDER``."""

from esr.runs.inspection import main

raise SystemExit(main())
