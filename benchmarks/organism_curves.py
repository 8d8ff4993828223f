"""Scores of the organism over the boost, recorded: what calibrations are compared on.

For each of some latents every boost of a grid meets the same prompts; first-attempt scores by the
organism's own judge are kept one by one, so that a calibration can be replayed on them.

    python -m benchmarks.organism_curves            # writes benchmarks/organism-curves.json

3,840 responses on the CPU; like every run it can be killed and resumed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from esr import models
from esr.errors import run_async
from esr.pipeline.cli import CommonConfig
from esr.pipeline.context import RunContext
from esr.pipeline.latents import select
from esr.pipeline.opening import open_context
from esr.pipeline.schema import Selection, TrialRecord, TrialSpec, boosted
from esr.pipeline.trials import run_trials
from esr.runs import seeds
from esr.runs.folder import write_json
from esr.runs.paths import RESULTS

FILE = Path(__file__).with_name("organism-curves.json")
COMMAND = "python -m benchmarks.organism_curves"


@dataclass(frozen=True)
class Scale:
    """How much is recorded.

    Attributes:
        latents: the first so many of those chosen.
        boosts: steps of the grid, up to ``reach`` times the mean of the model's prior.
        prompts: per latent and boost.
        reach: end of the grid.
    """

    latents: int = 40
    boosts: int = 12
    prompts: int = 8
    reach: float = 2.4


def specs(context: RunContext, selection: Selection, scale: Scale) -> list[TrialSpec]:
    """Every latent at every boost on its prompts; the seed is another for each response."""
    end = scale.reach * context.spec.calibration.prior_mean
    made = []
    for latent, label in list(selection.labels.items())[: scale.latents]:
        order = seeds.generator(context.seed, "curve prompts", latent).permutation(
            len(context.prompts.prompts)
        )
        prompts = [context.prompts.prompts[int(i)] for i in order[: scale.prompts]]
        for boost in np.linspace(end / scale.boosts, end, scale.boosts).round(2):
            for prompt in prompts:
                name = f"{latent}/{boost}/{prompt.id}"
                sampling = context.sampling(seeds.derive(context.seed, "curve", name))
                made.append(boosted("curve", latent, label, float(boost), prompt, name, sampling))
    return made


def curves(records: Sequence[TrialRecord]) -> dict[str, dict[str, list[float]]]:
    """Latent -> boost -> first-attempt scores of its graded responses."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        scores = found.setdefault(str(record.spec.latent), {}).setdefault(
            str(record.spec.threshold), []
        )
        if record.verdict and (score := record.verdict.first_score) is not None:
            scores.append(score)
    return found


async def record(config: CommonConfig, scale: Scale) -> dict[str, Any]:
    """Run it."""
    spec = models.get(config.model)
    async with open_context("benchmark_organism_curves", config, spec) as context:
        selection = await select(context, Scale.latents)
        records = await run_trials(specs(context, selection, scale), context, description="curves")
        return {
            "command": f"{COMMAND} --latents {scale.latents}",
            "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "model": spec.key,
            "model_identity": context.settings["model"],
            "judge": context.judge.info.id,
            "seed": context.seed,
            "latents": scale.latents,
            "prompts": context.prompts.name,
            "responses": len(records),
            "curves": curves(records),
        }


def main() -> None:
    """Entry of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", default=str(RESULTS), help="folder of the run")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--latents", type=int, default=Scale.latents, help="of 40")
    parser.add_argument("--engine", choices=("vllm", "transformers"), default="vllm")
    options = parser.parse_args()
    config = CommonConfig(model="tiny", output=options.results, engine=options.engine)
    write_json(options.file, run_async(record(config, Scale(latents=options.latents))))


if __name__ == "__main__":
    main()
