"""Experiment 12: does resistance depend on how one steers? Ours, beyond the paper."""
