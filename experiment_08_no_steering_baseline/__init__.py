"""Experiment 8: no steering (paper A.3.1, Figures A.2 and A.3)."""
