"""The report folder: one page with figures, numbers, runs and a browser of transcripts."""
