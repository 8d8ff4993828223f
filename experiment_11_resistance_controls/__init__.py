"""Experiment 11: what is left of resistance after its controls (ours, beyond the paper)."""
