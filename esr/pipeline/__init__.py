"""From options to ``results.json``: specs, trials, reads, selection, calibration, replay, dry
run."""
