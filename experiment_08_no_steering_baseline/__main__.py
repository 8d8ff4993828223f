"""``python -m experiment_08_no_steering_baseline [MODEL]``."""

from esr.pipeline.experiment import main
from experiment_08_no_steering_baseline.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
