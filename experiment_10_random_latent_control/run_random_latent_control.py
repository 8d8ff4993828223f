"""``python experiment_10_random_latent_control/run_random_latent_control.py STEP [MODEL]``."""

from experiment_10_random_latent_control.commands import start

if __name__ == "__main__":
    raise SystemExit(start("python run_random_latent_control.py"))
