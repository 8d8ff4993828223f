"""``python -m experiment_06_sequential_activations [MODEL]``."""

from esr.pipeline.experiment import main
from experiment_06_sequential_activations.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
