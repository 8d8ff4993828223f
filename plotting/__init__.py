"""Figures. Reads run folders and results files; never imports an engine."""
