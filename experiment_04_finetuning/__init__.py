"""Experiment 4: fine-tuning that induces self-correction (paper section 3.5, Figure 6)."""
