"""``python -m experiment_07_cross_judge [MODEL]``."""

from experiment_07_cross_judge.run import main

raise SystemExit(main())
