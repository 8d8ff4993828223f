"""Faults injected into the real command of experiment 1: ``make faults`` (docs/reliability.md)."""
