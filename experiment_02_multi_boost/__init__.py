"""Experiment 2: boost-level sweep (paper section 3.2, Figure 3)."""
