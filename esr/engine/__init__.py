"""Engines: what generates steered text and reads latents."""
