"""What a step is told: at full size on a GPU, or the miniature that a test runs on CPUs."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from benchmarks.overhead_arms import never_stopping
from esr.errors import UserError

if TYPE_CHECKING:
    from esr.engine.vllm import VllmEngine
    from esr.models import ModelSpec
    from esr.steering.sae import Dictionary

T = TypeVar("T")

GRAPHS = {"eager": None, "piecewise": "PIECEWISE", "full": "FULL_AND_PIECEWISE"}
"""How the model runs, and vLLM's name of the CUDA graphs; None: no compilation."""


@dataclass(frozen=True)
class Setting:
    """Sizes of a step.

    Attributes:
        miniature: on CPUs, with a tiny model in place of each shape, in float32, eager, and with
            vLLM in the step's own process.
        requests: of a parity step.
        tokens: of each.
        rounds: of a measurement.
    """

    miniature: bool = False
    requests: int = 30
    tokens: int = 32
    rounds: int = 5

    @classmethod
    def small(cls) -> Setting:
        """The miniature."""
        return cls(miniature=True, requests=5, tokens=6, rounds=1)

    def dtype(self, wanted: str) -> str:
        """CPUs compute in float32."""
        return "float32" if self.miniature else wanted

    def shape(self, name: str) -> str:
        """A random model of :mod:`benchmarks.random_models`."""
        return "tiny" if self.miniature else f"{name}-shape"


@contextmanager
def random_model(name: str, **changes: Any) -> Iterator[tuple[ModelSpec, Dictionary]]:
    """A random model and its dictionary, for as long as the step lasts."""
    from benchmarks import random_models

    with tempfile.TemporaryDirectory() as folder:
        spec, dictionary = random_models.build(name, Path(folder))
        yield dataclasses.replace(spec, **changes), dictionary


def start(
    spec: ModelSpec,
    dictionary: Dictionary,
    setting: Setting,
    graphs: str,
    **options: Any,
) -> VllmEngine:
    """Our engine with CUDA graphs of one kind; nothing stops a response before its cap.

    Raises:
        UserError: vLLM has settled on other graphs than asked for, or on another runner.
    """
    from esr.engine.options import VllmOptions

    wanted = None if setting.miniature else GRAPHS[graphs]
    asked = VllmOptions(
        compiled=wanted is not None,
        # Graphs that span the whole model have the steering inside; else they are cut at it.
        in_graph=wanted == GRAPHS["full"],
        in_process=setting.miniature,
        **options,
    )
    engine = never_stopping(spec, dictionary, asked)
    mode = engine._driver.config.compilation_config.cudagraph_mode
    if wanted is not None and mode.name != wanted:
        raise UserError(f"vLLM runs with CUDA graphs {mode.name}", wanted, "see its log")
    return engine


def used(engine: VllmEngine, work: Callable[[VllmEngine], Awaitable[T]]) -> T:
    """What ``work`` gives, in one event loop; the engine is closed afterwards."""

    async def and_closed() -> T:
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(and_closed())
