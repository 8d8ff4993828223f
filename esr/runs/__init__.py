"""Runs on disk: paths, seeds, provenance, the journal and the run folder."""
