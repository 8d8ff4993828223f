"""Experiment 7: the same responses before other judges (paper A.2.2, Figures A.4 to A.6)."""
