"""``python -m experiment_04_finetuning [generate|train|evaluate] [MODEL]``."""

from experiment_04_finetuning.stages import main

raise SystemExit(main())
