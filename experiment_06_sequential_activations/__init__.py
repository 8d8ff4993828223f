"""Experiment 6: one self-correcting episode, token by token (paper section 3.6, Figure 7)."""
