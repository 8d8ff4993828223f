"""Sizes of what steering keeps on a device; the memory plan counts with them, torch-free."""

from __future__ import annotations

KEEP = 4096
"""Latents kept on the device although no running request uses them, least recent first out."""

WORKSPACE = 2**24
"""Most activations of a block of a pooled read (64 MiB in float32)."""

ENCODER_BLOCK = 2**28
"""Most bytes of encoder rows in a block of a pooled read."""
