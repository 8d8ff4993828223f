"""What the ``results.json`` of each experiment holds; :mod:`esr.runs.results` reads it.

Keys that are not declared are allowed, so that a later version may add some.
"""

from __future__ import annotations

from typing import Any

from esr.pipeline.own_results import (
    ControlResults,
    DefenceResults,
    DirectionResults,
    OperatorResults,
    PairingResults,
)
from esr.pipeline.paper_results import (
    AblationResults,
    ActivationResults,
    CrossJudgeResults,
    DetectorResults,
    EpisodeResults,
    EsrResults,
    FinetuningResults,
    MultiBoostResults,
    RandomControlResults,
    ReplayResults,
)

RESULTS: dict[str, Any] = {
    "directions": DirectionResults,
    "experiment_01_esr": EsrResults,
    "experiment_02_multi_boost": MultiBoostResults,
    "experiment_03_find_detectors": DetectorResults,
    "experiment_03_off_topic_detectors": AblationResults,
    "experiment_04_finetuning": FinetuningResults,
    "experiment_05_prompt_variants": ReplayResults,
    "experiment_06_sequential_activations": EpisodeResults,
    "experiment_07_cross_judge": CrossJudgeResults,
    "experiment_08_no_steering_baseline": ReplayResults,
    "experiment_09_activation_stats": ActivationResults,
    "experiment_10_random_latent_control": RandomControlResults,
    "experiment_11_resistance_controls": ControlResults,
    "experiment_12_steering_operators": OperatorResults,
    "experiment_12_defence": DefenceResults,
    "experiment_13_pairing_fault": PairingResults,
}
"""Folder of an experiment below ``data/results`` -> what its ``results.json`` holds."""
