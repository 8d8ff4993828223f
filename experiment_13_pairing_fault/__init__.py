"""Experiment 13: what a fault in pairing requests with interventions makes of ESR (ours)."""
