"""``python -m experiment_09_activation_stats [STEP] [MODEL]``."""

from experiment_09_activation_stats.commands import start

if __name__ == "__main__":
    raise SystemExit(start("python -m experiment_09_activation_stats"))
