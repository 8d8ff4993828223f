"""``python -m experiment_01_esr [MODEL]``."""

from esr.pipeline.experiment import main
from experiment_01_esr.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
