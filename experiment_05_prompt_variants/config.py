"""Options of experiment 5."""

from __future__ import annotations

from dataclasses import dataclass

from simple_parsing import field

from esr.pipeline.cli import ReplayConfig


@dataclass(frozen=True, kw_only=True)
class Config(ReplayConfig):
    """Meta-prompts: the trials of experiment 1 with a sentence after the question (section 3.3)."""

    variants: tuple[str, ...] = field(default=(), metavar="VARIANT")
    """Meta-prompts by id, or templates of yours with {prompt} and optionally {latent_label};
    default: dont_get_distracted ignore_latent_label self_monitor resist_manipulation (A.3.2)."""

    no_steering: bool = field(default=False, action="store_true")
    """The same prompts with the boost off: restarts that the meta-prompt alone brings. The paper
    has no such arm."""
