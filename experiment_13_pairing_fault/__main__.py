"""``python -m experiment_13_pairing_fault [MODEL]``."""

from esr.pipeline.experiment import main
from experiment_13_pairing_fault.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
