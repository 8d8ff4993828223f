"""Experiment 3: off-topic detectors and their ablation (paper sections 2.3 and 3.4, Figure 5)."""
