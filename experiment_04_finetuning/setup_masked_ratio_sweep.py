"""Write the examples and build the mixes: ``python setup_masked_ratio_sweep.py [MODEL]``."""

from experiment_04_finetuning.stages import main

raise SystemExit(main(stage="generate"))
