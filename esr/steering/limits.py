"""Sizes of what steering keeps on a device; the memory plan counts with them, torch-free."""

from __future__ import annotations

KEEP = 4096
"""Latents kept on the device, in use or not; the least recent unused ones make room. Requests in
flight use no more between them."""

WORKSPACE = 2**24
"""Most activations of a block of a pooled read (64 MiB in float32)."""

ENCODER_BLOCK = 2**28
"""Most bytes of encoder rows in a block of a pooled read."""
