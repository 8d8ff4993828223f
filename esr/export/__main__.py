"""``python -m esr.export parquet|inspect``."""

from esr.export.commands import main

raise SystemExit(main())
