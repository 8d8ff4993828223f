"""``python -m experiment_11_resistance_controls [MODEL]``."""

from esr.pipeline.experiment import main
from experiment_11_resistance_controls.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
