"""Measurements that nothing depends on: `python benchmarks/NAME.py --help`."""
