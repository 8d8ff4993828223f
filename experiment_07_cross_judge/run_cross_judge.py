"""``python experiment_07_cross_judge/run_cross_judge.py --n-samples 1000``."""

from experiment_07_cross_judge.run import main

if __name__ == "__main__":
    raise SystemExit(main())
