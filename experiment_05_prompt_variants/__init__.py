"""Experiment 5: meta-prompts (paper section 3.3, Figure 4, A.3.2)."""
