"""Experiment 1: ESR across models (paper section 3.1, Figure 2)."""
