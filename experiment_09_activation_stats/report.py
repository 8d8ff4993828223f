"""The steps that compute and write: analyze and generate-output."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from esr.analysis.tables import ORGANISM_NOTE, decimal
from esr.errors import UserError
from esr.models.labels import load_labels
from esr.pipeline.context import RunContext
from esr.pipeline.detector_files import model_digest
from esr.runs.folder import write_json
from esr.runs.plain import plain
from experiment_09_activation_stats import analysis, collect, position, tables
from experiment_09_activation_stats.config import Config

EFFECTS = "detectors_with_effect.json"


async def analyze(config: Config, context: RunContext) -> str:
    """Compute the statistics and write results.json."""
    data = analysed(config, context)
    context.run.write_results(data)
    return show(data)


def analysed(config: Config, context: RunContext) -> dict[str, Any]:
    """``results.json`` of experiment 9.

    Raises:
        UserError: a step is missing, or no episode is left.
    """
    measured = collect.measured_episodes(config, context)
    baseline = collect.measured_baseline(config, context)
    if not measured:
        raise UserError(
            f"no episode of {context.replayed.path} is marked, read and has both regions",
            "a run with self-correcting trials, and the steps up to collect-baseline",
            f"python -m {collect.NAME} all {context.spec.key}, or a run with more trials",
        )
    groups, read = collect.groups(config, context), collect.columns(config, context)
    places = {name: [read.index(k) for k in members] for name, members in groups.items() if members}
    marks = collect.written_marks(context)
    detectors = config.detector_set
    return {
        "experiment_config": context.experiment_config(),
        "parent": context.replayed.identity(),
        "model_digest": model_digest(context),
        "detectors": {"latents": list(detectors.latents), "method": detectors.method},
        "counts": {
            "episodes_found": collect.load(context, "episodes", "extract-episodes")["found"],
            "episodes_extracted": len(marks),
            "episodes_marked": sum(mark.boundaries is not None for mark in marks.values()),
            "episodes_analysed": len(measured),
            "boosted_latents": len({m.latent for m in measured}),
            "baseline": len(baseline),
        },
        "boundaries": sorted({mark.method for mark in marks.values()}),
        "latents": _rows(context, measured, baseline, groups, read),
        "groups": {
            name: {
                **analysis.group(measured, baseline, at, context.seed),
                **(position.against_position(measured, baseline, at, context.seed)),
            }
            for name, at in places.items()
        },
        "aligned": {
            name: analysis.aligned(measured, at, config.window) for name, at in places.items()
        },
        "results_by_feature": [],
    }


def _rows(
    context: RunContext,
    measured: Sequence[analysis.Measured],
    baseline: Sequence[analysis.Measured],
    groups: Mapping[str, Sequence[int]],
    read: Sequence[int],
) -> list[dict[str, Any]]:
    """One row per group and latent; p values are corrected within the group."""
    off = analysis.region_means(measured, "off_topic")
    on = analysis.region_means(measured, "on_topic")
    labels = load_labels(context.spec, required=False)
    base = analysis.response_means(baseline) if baseline else None
    rows: list[dict[str, Any]] = []
    for name, members in groups.items():
        family = []
        for latent in members:
            at = read.index(latent)
            row = {"group": name, "latent": latent, "label": labels.get(latent, "")}
            row |= analysis.against(off[:, at], on[:, at])
            row["baseline_mean"] = None if base is None else plain(analysis.mean_of(base[:, at]))
            family.append(row)
        analysis.corrected(family)
        rows += family
    return rows


async def generate_output(config: Config, context: RunContext) -> str:
    """Write the LaTeX tables and the detectors with their effect sizes."""
    path = context.run.path / "results.json"
    if not path.is_file():
        raise UserError(
            f"no results in {context.run.path}",
            "a run in which the step analyze has been done",
            f"python -m {collect.NAME} analyze {context.spec.key}",
        )
    data = json.loads(path.read_text(encoding="utf-8"))
    written = []
    folder = context.run.path / "tables"
    folder.mkdir(exist_ok=True)
    for name, text in tables.all_tables(data).items():
        (folder / f"{name}.tex").write_text(text, encoding="utf-8")
        written.append(f"  {folder / name}.tex")
    write_json(context.run.path / EFFECTS, with_effects(config, data))
    written.append(f"  {context.run.path / EFFECTS}")
    return "\n".join(["written:", *written, "figures: python plotting/plot_exp9.py"])


def with_effects(config: Config, data: Mapping[str, Any]) -> dict[str, Any]:
    """The detectors file with the effect sizes, for ``--split sign`` of experiment 3."""
    rows = {row["latent"]: row for row in data["latents"] if row["group"] == "detectors"}
    detectors = config.detector_set
    return {
        "model_name": detectors.model_name,
        "model_digest": data["model_digest"],
        "method": detectors.method,
        "off_topic_detectors": list(detectors.latents),
        "detector_stats": {
            str(k): {
                **detectors.stats.get(k, {}),
                **{name: rows[k][name] for name in ("off_topic_mean", "on_topic_mean")},
                # A latent that is silent in both regions has no direction: 0, neither sign.
                "cohens_d": 0.0 if rows[k]["cohens_d"] is None else rows[k]["cohens_d"],
            }
            for k in detectors.latents
        },
        "run_id": data["experiment_config"]["run_id"],
    }


def show(data: Mapping[str, Any]) -> str:
    """What is printed at the end."""
    config, counts = data["experiment_config"], data["counts"]
    lines = [
        f"Activations in {counts['episodes_analysed']} self-correcting episodes of "
        f"{config['model_title']} ({counts['boosted_latents']} boosted latents; "
        f"{counts['episodes_found']} found, {counts['episodes_marked']} marked "
        f"by {', '.join(data['boundaries'])}), baseline {counts['baseline']}",
        f"  detectors: {len(data['detectors']['latents'])}, {data['detectors']['method']}",
        f"  {'group mean':14}{'off topic':>22}{'on topic':>22}{'baseline':>22}{'d':>7}"
        f"{'delta':>7}{'p':>10}",
    ]
    for name, row in data["groups"].items():
        cells = [
            _with_interval(row.get(f"{key}_mean"), row.get(f"{key}_two_way_interval"))
            for key in ("off_topic", "on_topic", "baseline")
        ]
        lines.append(
            f"  {name:14}"
            + "".join(f"{cell:>22}" for cell in cells)
            + f"{decimal(row['cohens_d'], 2):>7}{decimal(row['cliffs_delta'], 2):>7}"
            f"{row['wilcoxon_p']:>10.2g}"
        )
    lines += [_position(name, row) for name, row in data["groups"].items() if row.get("position_n")]
    for name in data["groups"]:
        family = [row for row in data["latents"] if row["group"] == name]
        raw = sum(row["wilcoxon_p"] < 0.05 for row in family)
        holm = sum(row["holm_p"] < 0.05 for row in family)
        lines.append(
            f"  {name}: p < 0.05 for {raw} of {len(family)} latents, {holm} after Holm's correction"
        )
    if "backtracking" not in data["groups"]:
        lines.append("  backtracking: no label holds a word of correcting oneself")
    lines.append("  intervals: 95 %, boosted latents and prompts drawn at random")
    if config["organism"]:
        lines.append(f"  {ORGANISM_NOTE}")
    return "\n".join(lines)


def _position(name: str, row: Mapping[str, Any]) -> str:
    excess = _with_interval(
        row["excess_over_position"], row["excess_over_position_two_way_interval"]
    )
    return (
        f"  {name}: baseline at the same tokens falls by {row['position_difference']:.3g} from the "
        f"off-topic to the on-topic ones; beyond that {excess}, p "
        f"{row['excess_over_position_p']:.2g}, {row['position_n']} episodes"
    )


def _with_interval(value: float | None, ends: Sequence[float] | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" + (f" [{ends[0]:.3g}, {ends[1]:.3g}]" if ends else "")
