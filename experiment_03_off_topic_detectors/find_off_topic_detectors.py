"""``python find_off_topic_detectors.py MODEL``: the same as the step ``find``."""

from esr.pipeline.experiment import main
from experiment_03_off_topic_detectors.find import EXPERIMENT

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
