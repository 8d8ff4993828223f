"""The steps: what each measures, how long it may take, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.gpu.setting import Setting

LONGEST = 480
"""Seconds that no step's limit exceeds."""


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: on the command line and in the file.
        what: for the list.
        limit: seconds, with the start of an engine and its compilation; then it is ended.
        module, function: in ``benchmarks.gpu``, called with the setting.
        options: more of its arguments.
        shape: registered model whose size must fit on the GPUs there are; "" for none.
        gpus: how many.
    """

    name: str
    what: str
    limit: int
    module: str
    function: str
    options: tuple[tuple[str, Any], ...] = ()
    shape: str = ""
    gpus: int = 1

    def run(self, setting: Setting) -> dict[str, Any]:
        """Its figures."""
        import importlib

        module = importlib.import_module(f"benchmarks.gpu.{self.module}")
        function: Callable[..., dict[str, Any]] = getattr(module, self.function)
        return partial(function, setting, **dict(self.options))()

    def lacks(self, gpus: Sequence[int]) -> str:
        """Why GPUs of so many bytes each cannot run it; "" if they can."""
        if not gpus:
            return "no GPU here"
        if len(gpus) < self.gpus:
            return f"needs {self.gpus} GPUs, here is {len(gpus)}"
        if self.shape:
            from benchmarks.gpu.speed import fits

            if not any(fits(self.shape, n, min(gpus[:n])) for n in range(1, min(2, len(gpus)) + 1)):
                return f"{self.shape} does not fit on {len(gpus)} of these GPUs"
        return ""


def _parity(graphs: str, dtype: str, quantization: str = "") -> Step:
    label = {"float32": "f32", "bfloat16": "bf16"}[dtype] if not quantization else "fp8"
    options = (("graphs", graphs), ("dtype", dtype), ("quantization", quantization))
    what = f"tokens against a plain hook: {graphs}, {label}"
    return Step(f"parity-{graphs}-{label}", what, 300, "parity", "against_plain", options)


def _overhead(shape: str, in_flight: int, stock: bool) -> Step:
    return Step(
        f"overhead-{shape}-{in_flight}",
        f"steered / unsteered: {shape} shape, {in_flight} in flight, all requests different"
        + (", stock vLLM beside" if stock else ""),
        LONGEST,
        "speed",
        "overhead",
        (("shape", shape), ("in_flight", in_flight), ("stock", stock)),
        shape,
    )


STEPS: tuple[Step, ...] = (
    *(_parity(graphs, "float32") for graphs in ("eager", "piecewise", "full")),
    *(_parity(graphs, "bfloat16") for graphs in ("eager", "piecewise", "full")),
    _parity("full", "bfloat16", "fp8_per_tensor"),
    Step("null", "unsteered alone, beside steered ones, and boosted by 0", 240, "parity", "null"),
    _overhead("8b", 64, True),
    _overhead("8b", 256, True),
    _overhead("70b", 64, False),
    _overhead("70b", 256, False),
    Step(
        *("distinct-8b", "K distinct boosts in one batch of 256", LONGEST, "speed", "distinct"),
        shape="8b",
    ),
    Step(
        *("memory-8b", "memory plan against what is used", 300, "speed", "memory_use"),
        (("shape", "8b"),),
        "8b",
    ),
    Step(
        *("memory-70b", "memory plan against what is used", LONGEST, "speed", "memory_use"),
        (("shape", "70b"),),
        "70b",
    ),
    Step(
        "ranks", "tensor parallel 2 against 1: tokens, stale reads", 420, "parity", "ranks", gpus=2
    ),
    Step("lora-8b", "one LoRA step", 300, "speed", "lora", shape="8b"),
)
