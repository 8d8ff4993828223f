"""Models and engines shared over the engine tests, because starting one takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esr.engine.transformers import TransformersEngine
from esr.models import ModelSpec
from esr.steering.directions import Direction, store
from esr.steering.sae import Dictionary
from tests.engine.engine_models import (
    D_SAE,
    MORE_LAYERS,
    build_dictionary,
    build_direction,
    build_model,
)
from tests.engine.plain_hook import PlainHook

FAMILIES = ("llama", "gemma2")


@pytest.fixture(scope="session")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Dictionary:
    return build_dictionary(tmp_path_factory.mktemp("sae") / "rows.safetensors")


@pytest.fixture(scope="session")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    torch.set_num_threads(1)
    folder: Path = tmp_path_factory.mktemp("models")
    return {family: build_model(folder / family, family) for family in FAMILIES}


@pytest.fixture(scope="session")
def references(
    specs: dict[str, ModelSpec], dictionary: Dictionary
) -> dict[str, TransformersEngine]:
    return {
        family: TransformersEngine(spec, dictionary, MORE_LAYERS) for family, spec in specs.items()
    }


@pytest.fixture
def direction() -> Direction:
    """Stored anew for every test, because each has a cache folder of its own."""
    direction = build_direction()
    store(direction)
    return direction


@pytest.fixture(scope="session")
def hooks(specs: dict[str, ModelSpec], dictionary: Dictionary) -> dict[str, PlainHook]:
    """Plain Hugging Face, with hooks written from the definitions alone."""
    direction = build_direction()
    vectors = {direction.digest: direction.vectors}
    rows = dictionary.bank(range(D_SAE))
    return {family: PlainHook(spec, rows, vectors) for family, spec in specs.items()}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)
