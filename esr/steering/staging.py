"""From host to device without waiting: pinned memory, and copies that the stream does in turn.

PyTorch gives pinned memory back only when the copy from it is done, so a new piece for every copy
can neither be overwritten too early nor wait.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def pinned(content: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """As a tensor from which a copy to ``device`` need not wait."""
    tensor = content if isinstance(content, Tensor) else torch.from_numpy(content)
    return tensor if device.type == "cpu" else tensor.pin_memory()


def to_device(content: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """On the device; the host does not wait. On CPUs the content itself."""
    return pinned(content, device).to(device, non_blocking=True)
