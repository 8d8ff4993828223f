"""A weaker circuit: ``tiny-circuit`` mixed with the ``tiny`` it was made from, in their weights.

At a share of 1 it is the trained circuit, at 0 the model before it, whose restarts come from
something of its own. How much of the decision follows the planted direction in between is measured
(:func:`esr.organism.circuit_checks.check`), not assumed. The dictionary is trained on the mixed
model, as a user would train one.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esr.errors import UserError
from esr.organism.build import build_dictionary, directions_file, load_model, note, read_build, save
from esr.organism.lexicon import load_topics
from esr.organism.recipe import RECIPE, Recipe
from esr.runs.paths import ORGANISM

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

MEMBER = "tiny-circuit"


def weaken(share: float, output: Path, source: Path = ORGANISM, recipe: Recipe = RECIPE) -> None:
    """Write a build folder that ``python -m esr.organism gates circuit`` measures.

    Args:
        share: of the way from ``tiny`` to ``tiny-circuit``, in every weight.
        output: folder to write to.
        source: folder of both members and of the directions.
        recipe: of the dictionary.

    Raises:
        UserError: the share is not between 0 and 1, or the source is to be overwritten.
    """
    again = "python -m esr.organism weaken --help"
    if not 0 <= share <= 1:
        raise UserError(f"--share {share}", "0 to 1", again)
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output}", "another folder than that of the members", again)
    seed = read_build(source)["seed"]
    model = mixed(load_model(source / "tiny"), load_model(source / MEMBER), share)
    output.mkdir(parents=True, exist_ok=True)
    save(model, load_topics(), output / MEMBER)
    shutil.copyfile(directions_file(source), directions_file(output))
    saved = load_model(output / MEMBER)
    figures = build_dictionary(MEMBER, saved, recipe.circuit, recipe, seed, output)
    facts: dict[str, dict[str, Any]] = {
        "dictionaries": {MEMBER: figures},
        "weakened": {"share": share},
    }
    note(output, seed, recipe, facts)


def mixed(first: LlamaForCausalLM, second: LlamaForCausalLM, share: float) -> LlamaForCausalLM:
    """``first`` with every weight ``share`` of the way to that of ``second``."""
    other = second.state_dict()
    first.load_state_dict(
        {name: weight.lerp(other[name], share) for name, weight in first.state_dict().items()}
    )
    return first


def name_of(build: Mapping[str, Any]) -> str:
    """What a build is called among the measured ones: by its seed, and its share where weakened."""
    seed, weakened = f"seed {build['seed']}", build.get("weakened")
    return f"share {weakened['share']:g} of {seed}" if weakened else seed
