"""The search for off-topic detectors: unsteered responses, pairs, pooled reads, two criteria."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esr.analysis import detectors
from esr.analysis.detectors import Statistics
from esr.errors import UserError
from esr.models import ModelSpec, prompts
from esr.models.labels import load_labels
from esr.pipeline.context import RunContext
from esr.pipeline.detector_files import FILE_NAME, FIND, model_digest
from esr.pipeline.detector_pairs import ReadPairs, read_pairs
from esr.pipeline.experiment import Experiment
from esr.pipeline.latents import unsteered
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.stages import Stage
from esr.pipeline.trials import by_feature, run_trials
from esr.runs import seeds
from esr.runs.folder import write_json
from experiment_03_off_topic_detectors.config import FindConfig

ARM = "unsteered"


def stages(config: FindConfig, spec: ModelSpec) -> list[Stage]:
    """Responses and reads."""
    prompt_set = prompts.load(config.prompts, spec.prompt_set)
    n = len(prompt_set.prompts) * config.responses_per_prompt
    return [
        Stage("unsteered responses", n, spec.max_tokens, judged=False),
        Stage("pairs", 0, 0, judged=False, reads=n * (1 + config.derangements)),
    ]


async def specs(config: FindConfig, context: RunContext) -> list[TrialSpec]:
    """Everything: the responses, the reads, and the file of detectors."""
    questions = context.prompts.prompts
    if len(questions) <= config.derangements:
        raise UserError(
            f"--derangements {config.derangements} with {len(questions)} prompts",
            f"1 to {len(questions) - 1}",
            "fewer derangements, or more prompts",
        )
    responses = unsteered(context, ARM, config.responses_per_prompt)
    records = await run_trials(responses, context, description="unsteered responses")
    rngs = [
        seeds.generator(context.seed, "derangements", number)
        for number in range(config.responses_per_prompt)
    ]
    pairing = detectors.pairing(len(questions), config.derangements, rngs)
    read = await read_pairs(context, records, pairing)
    write_json(context.run.path / FILE_NAME, analysis(config, context, read))
    return responses


def analysis(config: FindConfig, context: RunContext, read: ReadPairs) -> dict[str, Any]:
    """The file of detectors."""
    statistics = detectors.statistics(read.pairs, config.silent)
    passing = detectors.strict(statistics, config.min_share)
    separable = detectors.separable(statistics, config.top)
    rng = seeds.generator(context.seed, "separability null")
    null = detectors.separability_null(read.pairs, rng, config.permutations)
    nearest = statistics.nearest_to_strict
    stats = _stats(context, statistics, [*passing, *separable, nearest])
    return {
        "model_name": context.spec.key if context.spec.organism else context.spec.hf_id,
        "model_digest": model_digest(context),
        "method": "strict",
        "off_topic_detectors": passing,
        "separability_detectors": separable,
        "detector_stats": {str(k): stats[str(k)] for k in dict.fromkeys([*passing, *separable])},
        "pairs": {
            "matched": read.responses,
            "mismatched": read.responses * config.derangements,
            "responses_left_out": read.left_out,
            "prompts": context.prompts.name,
        },
        "criterion": {"silent_below": config.silent, "min_share": config.min_share},
        "nearest_to_strict": {"latent": nearest, **stats[str(nearest)]},
        "separability_null": {
            "permutations": config.permutations,
            "largest_auc_median": float(np.median(null)),
            "largest_auc_95": float(np.quantile(null, 0.95)),
            "latents_above_95": int((statistics.auc > np.quantile(null, 0.95)).sum()),
        },
        "active_latents": int((statistics.matched_share + statistics.mismatched_share > 0).sum()),
        "feature_layer": context.spec.feature_layer,
        "run_id": context.run.metadata.run_id,
    }


def _stats(
    context: RunContext, statistics: Statistics, latents: Sequence[int]
) -> dict[str, dict[str, Any]]:
    labels = load_labels(context.spec, required=False)
    return {
        str(k): {**statistics.of(k), "label": labels.get(k, "")} for k in dict.fromkeys(latents)
    }


def outcome_results(
    _config: FindConfig, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``: the file of detectors and the responses it was made from."""
    path = context.run.path / FILE_NAME
    detector_file = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        "experiment_config": context.experiment_config(),
        **detector_file,
        "file": str(path),
        "results_by_feature": by_feature(records),
    }


def show(data: Mapping[str, Any]) -> str:
    """What is printed at the end."""
    config, pairs = data["experiment_config"], data["pairs"]
    strict, separable = data["off_topic_detectors"], data["separability_detectors"]
    null, nearest = data["separability_null"], data["nearest_to_strict"]
    lines = [
        f"Off-topic detectors of {config['model_title']}, prompts {pairs['prompts']}",
        f"  {pairs['matched']} matched and {pairs['mismatched']} mismatched pairs; "
        f"{data['active_latents']} latents active on any",
        f"  strict criterion (silent on every matched pair, active on at least "
        f"{100 * data['criterion']['min_share']:.0f} % of mismatched): {len(strict)}",
        f"  separability: {null['latents_above_95']} latents above AUC "
        f"{null['largest_auc_95']:.3f}, the largest in 95 % of relabelings",
    ]
    if not strict:
        lines.append(
            "  none passes; the nearest is latent "
            f"{nearest['latent']} ({nearest['label']}): active on "
            f"{100 * nearest['normal_active_frequency']:.0f} % of matched and "
            f"{100 * nearest['shuffled_active_frequency']:.0f} % of mismatched pairs"
        )
        lines.append(f"  ablation will use the {len(separable)} most separable latents, so named")
    lines.append(f"  {'latent':>8}{'matched':>9}{'mismatched':>12}{'AUC':>8}  label")
    for latent in (strict or separable)[:10]:
        about = data["detector_stats"][str(latent)]
        lines.append(
            f"  {latent:>8}{100 * about['normal_active_frequency']:>7.0f} %"
            f"{100 * about['shuffled_active_frequency']:>10.0f} %{about['auc']:>8.3f}"
            f"  {about['label']}"
        )
    lines.append(f"  file: {data['file']}")
    return "\n".join(lines)


EXPERIMENT = Experiment(
    FIND,
    FindConfig,
    stages,
    specs,
    outcome_results,
    show,
    command="experiment_03_off_topic_detectors find",
)
