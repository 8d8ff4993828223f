"""``python -m experiment_06_sequential_activations [MODEL]``."""

from esr.experiment import main
from experiment_06_sequential_activations.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
