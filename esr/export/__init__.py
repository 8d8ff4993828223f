"""Runs as others read them: Parquet tables with a data card, and logs for Inspect."""
