"""``python -m esr.directions fit | show | check | list``."""

from esr.directions.commands import main

raise SystemExit(main())
