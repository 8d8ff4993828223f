"""``python -m experiment_12_steering_operators [compare|defend] [MODEL]``."""

from experiment_12_steering_operators.commands import main

raise SystemExit(main())
