"""Experiment 10: sets of random latents clamped instead of the detectors (paper A.3.3, A.14)."""
