"""``python -m experiment_03_off_topic_detectors find|ablate [MODEL]``."""

from experiment_03_off_topic_detectors.commands import main

raise SystemExit(main())
