"""What trials come to: outcomes, rates, intervals, tests, agreement, detectors, tables: pure
functions."""
