"""``python experiment_3_with_ablation.py MODEL --ablate FILE``: the same as the step ``ablate``."""

from esr.pipeline.experiment import main
from experiment_03_off_topic_detectors.ablate import EXPERIMENT

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
