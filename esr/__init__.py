"""ESR: endogenous steering resistance, measured (arXiv 2602.06941)."""

__version__ = "0.1.0"
