"""The search for off-topic detectors: unsteered responses, pairs, pooled reads, two criteria."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esr.analysis import detectors
from esr.analysis.detectors import Pairs, Statistics
from esr.engine.base import ReadRequest
from esr.errors import UserError
from esr.models import ModelSpec, prompts
from esr.models.prompts import Prompt
from esr.pipeline import results
from esr.pipeline.context import RunContext
from esr.pipeline.detector_files import FILE_NAME, FIND, model_digest
from esr.pipeline.dry_run import Stage
from esr.pipeline.experiment import Experiment
from esr.pipeline.latents import load_labels, pooled, unsteered
from esr.pipeline.reads import ReadRecord, run_reads
from esr.pipeline.schema import TrialRecord, TrialSpec
from esr.pipeline.trials import run_trials
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
    requests = [
        _request(context, questions[prompt], records[response], matched)
        for response, prompt, matched in pairing(config, context, len(questions))
    ]
    read = await run_reads(requests, context, description="pairs")
    write_json(context.run.path / FILE_NAME, analysis(config, context, read))
    return responses


def pairing(config: FindConfig, context: RunContext, n_prompts: int) -> list[tuple[int, int, bool]]:
    """(index of the response, index of the prompt, whether they match), response by response.

    Responses stand as :func:`esr.pipeline.latents.unsteered` makes them: prompt by prompt.
    """
    per_prompt = config.responses_per_prompt
    pairs = []
    for number in range(per_prompt):
        rng = seeds.generator(context.seed, "derangements", number)
        moved = detectors.derangements(n_prompts, config.derangements, rng)
        for own in range(n_prompts):
            response = own * per_prompt + number
            pairs.append((response, own, True))
            pairs += [(response, int(image[own]), False) for image in moved]
    return pairs


def _request(
    context: RunContext, prompt: Prompt, record: TrialRecord, matched: bool
) -> ReadRequest:
    kind = "matched" if matched else "mismatched"
    return ReadRequest(
        f"{kind}/{prompt.id}/{record.spec.trial_id}",
        context.chat.conversation_ids(prompt.text, record.response or ""),
    )


def analysis(config: FindConfig, context: RunContext, read: Sequence[ReadRecord]) -> dict[str, Any]:
    """The file of detectors."""
    size = 1 + config.derangements
    groups = [read[start : start + size] for start in range(0, len(read), size)]
    whole = [group for group in groups if all(record.reading for record in group)]
    if not whole:
        raise UserError(
            f"none of {len(groups)} responses could be read: {read[0].error}",
            "texts within the context of the model",
            "shorten the prompts",
        )
    maxima = [[pooled(r.reading.pooled).maximum.numpy() for r in g if r.reading] for g in whole]
    pairs = Pairs.by_response(np.array(maxima))
    statistics = detectors.statistics(pairs, config.silent)
    passing = detectors.strict(statistics, config.min_share)
    separable = detectors.separable(statistics, config.top)
    rng = seeds.generator(context.seed, "separability null")
    null = detectors.separability_null(pairs, rng, config.permutations)
    return {
        "model_name": context.spec.key if context.spec.organism else context.spec.hf_id,
        "model_digest": model_digest(context),
        "method": "strict",
        "off_topic_detectors": passing,
        "separability_detectors": separable,
        "detector_stats": _stats(context, statistics, [*passing, *separable]),
        "pairs": {
            "matched": len(whole),
            "mismatched": len(whole) * config.derangements,
            "responses_left_out": len(groups) - len(whole),
            "prompts": context.prompts.name,
        },
        "criterion": {"silent_below": config.silent, "min_share": config.min_share},
        "nearest_to_strict": _nearest(context, statistics),
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
    labels = _labels(context)
    return {
        str(k): {**statistics.of(k), "label": labels.get(k, "")} for k in dict.fromkeys(latents)
    }


def _nearest(context: RunContext, statistics: Statistics) -> dict[str, Any]:
    """The latent with the largest surplus of mismatched over matched pairs: how far a dictionary
    is from the criterion where nothing passes."""
    best = int(np.argmax(statistics.mismatched_share - statistics.matched_share))
    return {"latent": best, **statistics.of(best), "label": _labels(context).get(best, "")}


def _labels(context: RunContext) -> dict[int, str]:
    """Labels for the reader; a search needs none."""
    if not context.spec.label_file.is_file():
        return {}
    return load_labels(context.spec.label_file, context.spec.d_sae)


def outcome_results(
    config: FindConfig, context: RunContext, records: list[TrialRecord]
) -> dict[str, Any]:
    """``results.json``: the file of detectors and the responses it was made from."""
    path = context.run.path / FILE_NAME
    detector_file = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        "experiment_config": results.experiment_config(config.identity(), context),
        **detector_file,
        "file": str(path),
        "results_by_feature": results.by_feature(records),
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
    name=FIND,
    command="experiment_03_off_topic_detectors find",
    config=FindConfig,
    stages=stages,
    specs=specs,
    results=outcome_results,
    report=show,
)
