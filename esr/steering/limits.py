"""Sizes of what steering keeps on a device; the memory plan counts with them, torch-free."""

from __future__ import annotations

KEEP = 4096
"""Rows in play, the most: requests in flight use no more between them."""

WORKSPACE = 2**24
"""Most activations of a block of a pooled read (64 MiB in float32)."""

ENCODER_BLOCK = 2**28
"""Most bytes of encoder rows in a block of a pooled read."""

GRAPH_ROWS = 1024
"""Rows in play, the most, where steering is inside CUDA graphs: every step multiplies all."""

GRAPH_LINES = 4
"""Lines of a layer's table for each request in flight there: its phases, see
:mod:`esr.steering.lines`."""

GATED = 16
"""Gated slots of a request at one layer and position, the most, inside CUDA graphs."""
