"""Options of experiment 6."""

from __future__ import annotations

from dataclasses import dataclass

from simple_parsing import field

from esr.pipeline.annotation import EpisodeConfig
from esr.runs.bounds import bounded


@dataclass(frozen=True, kw_only=True)
class Config(EpisodeConfig):
    """Follow one self-correcting episode of experiment 1 token by token, its boost on (3.6)."""

    episode: str = field(default="", metavar="TRIAL")
    """Trial id of the episode; default: the clearest one of the run, the largest gain."""

    latents: tuple[int, ...] = bounded((), ge=0, metavar="LATENT")
    """Latents shown by themselves; 33044 in the paper (3.6). Default: the detector that is most
    active in the episode."""
