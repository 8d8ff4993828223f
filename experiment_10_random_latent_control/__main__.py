"""``python -m experiment_10_random_latent_control [run-random|analyze] [MODEL]``."""

from experiment_10_random_latent_control.commands import start

if __name__ == "__main__":
    raise SystemExit(start("python -m experiment_10_random_latent_control"))
