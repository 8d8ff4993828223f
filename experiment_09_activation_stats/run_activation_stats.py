"""``python experiment_09_activation_stats/run_activation_stats.py STEP [MODEL]``."""

from experiment_09_activation_stats.commands import start

if __name__ == "__main__":
    raise SystemExit(start("python run_activation_stats.py"))
