"""``python -m experiment_02_multi_boost [MODEL]``."""

from esr.pipeline.experiment import main
from experiment_02_multi_boost.run import EXPERIMENT

raise SystemExit(main(EXPERIMENT))
