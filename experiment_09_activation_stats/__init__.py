"""Experiment 9: activation statistics of self-correcting episodes (paper A.4, Table 2)."""
