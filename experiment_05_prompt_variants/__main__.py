"""``python -m experiment_05_prompt_variants [MODEL]``."""

from esr.pipeline.experiment import main
from experiment_05_prompt_variants.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
