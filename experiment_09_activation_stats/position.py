"""A baseline at the positions of the episodes' own parts.

Off-topic text always precedes on-topic text, so a latent that merely fades along a response is
more active off topic. The baseline responses, which have no such parts, are looked at in the same
tokens: what they lose from the one stretch to the other is what position brings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from esr.runs.plain import plain
from experiment_09_activation_stats.analysis import (
    Array,
    Measured,
    intervals_of_mean,
    mean_of,
    region_means,
    row_mean,
    wilcoxon_greater,
)


def matched_baseline(
    episodes: Sequence[Measured], baseline: Sequence[Measured], columns: Sequence[int]
) -> tuple[Array, Array]:
    """Mean of a group over baseline responses at the tokens of each episode's two parts.

    Only responses that reach into both parts count, so that both means are of the same ones.

    Args:
        episodes: with regions.
        baseline: whole responses.
        columns: of the group.

    Returns:
        at the off-topic tokens and at the on-topic ones: [n_episodes] each; NaN where no response
        is long enough.
    """
    traces = [row_mean(response.values[:, columns]) for response in baseline]
    table = np.full((len(traces), max(map(len, traces), default=0)), np.nan)
    for row, trace in zip(table, traces, strict=True):
        row[: len(trace)] = trace
    means = np.full((2, len(episodes)), np.nan)
    for place, episode in enumerate(episodes):
        parts = [table[:, episode.regions[name]] for name in ("off_topic", "on_topic")]
        if all(part.shape[1] for part in parts):
            both = np.stack([row_mean(part) for part in parts])
            whole = ~np.isnan(both).any(axis=0)
            if whole.any():
                means[:, place] = both[:, whole].mean(axis=1)
    return means[0], means[1]


def against_position(
    episodes: Sequence[Measured], baseline: Sequence[Measured], columns: Sequence[int], seed: int
) -> dict[str, Any]:
    """Off topic minus on topic beside the same of the baseline at the same tokens.

    Args:
        episodes: with regions.
        baseline: whole responses.
        columns: of the group.
        seed: the run's.

    Returns:
        ``position_difference``, of the baseline; ``excess_over_position``, of the episodes minus
        it, with intervals that take the baseline as given, and a one-sided Wilcoxon p;
        ``position_n`` episodes that baseline responses reach.
    """
    off, on = (
        row_mean(region_means(episodes, name)[:, columns]) for name in ("off_topic", "on_topic")
    )
    base_off, base_on = matched_baseline(episodes, baseline, columns)
    excess = (off - on) - (base_off - base_on)
    defined = ~np.isnan(excess)
    return {
        "position_n": int(defined.sum()),
        "position_difference": plain(mean_of((base_off - base_on)[defined])),
        "excess_over_position": plain(mean_of(excess)),
        **intervals_of_mean("excess_over_position", excess, episodes, seed),
        "excess_over_position_p": (
            wilcoxon_greater(off[defined] - on[defined], (base_off - base_on)[defined])
            if defined.any()
            else None
        ),
    }
