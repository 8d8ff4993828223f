"""Options that every experiment has: declared once, each with its section of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from simple_parsing import field

from esr import models
from esr.engine.base import Pairing
from esr.errors import UserError
from esr.judge.base import CallSettings
from esr.pipeline.schema import LatentFilter
from esr.runs import bounds
from esr.runs.bounds import bounded
from esr.runs.commands import Groups
from esr.runs.paths import RESULTS

ConfigT = TypeVar("ConfigT", bound="CommonConfig")


def incidental(default: Any, **options: Any) -> Any:
    """A field that cannot change a result, and so does not help to name the run."""
    return field(default=default, metadata={"identity": False}, **options)


def later(default: Any, **options: Any) -> Any:
    """A field that came later: it names a run only where it is not the default, so that older runs
    keep their names."""
    return field(default=default, metadata={"identity": "unless default"}, **options)


HELP_GROUPS: Groups = {
    "": ("model", "n_latents", "n_trials", "dry_run"),
    "what to run": ("model_file", "from_results", "prompts", "latent_filter", "seed"),
    "how it is generated": ("as_published", "profile", "calibration", "engine", "pairing"),
    "judge and money": ("judge", "rubric", "judge_batch", "judge_concurrency", "max_spend"),
    "machine and files": ("tensor_parallel", "replicas", "in_flight", "output", "new"),
}
"""How ``--help`` orders the shared options; what an experiment adds comes last."""

PUBLISHED = {"profile": "release", "prompts": "upstream", "rubric": "upstream"}
"""What ``--as-published`` stands for; the release's latent filter is the default already."""


def _typed(options: Mapping[str, str]) -> str:
    return " ".join(f"--{name} {value}" for name, value in options.items())


def number_or_auto(text: str) -> int:
    """0 stands for ``auto``."""
    return 0 if text == "auto" else int(text)


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Options every experiment has. Defaults are the paper's values."""

    help_groups: ClassVar[Groups] = HELP_GROUPS

    model: str = field(default="tiny", positional=True, nargs="?", metavar="MODEL")
    """Model key: 70b, 8b, gemma-2b, gemma-9b, gemma-27b, tiny, tiny-base,
    tiny-restarts, tiny-circuit (paper Table 1)."""

    model_file: str = incidental("", metavar="TOML")
    """A model of your own in place of MODEL (docs/own-model.md)."""

    n_latents: int | None = bounded(None, ge=1, metavar="N")
    """Latents to boost; default: the model's, 1,000 for the paper's five (A.1.2)."""

    n_trials: int | None = bounded(None, ge=1, metavar="N")
    """Trials per latent, prompts drawn without replacement, one response each; default: the
    model's, 5 for the paper's five (A.1.4)."""

    profile: Literal["paper", "release"] = "paper"
    """Generation profile: the paper's text, or what the authors' release runs (DEVIATIONS.md)."""

    as_published: bool = incidental(False, action="store_true")
    """As close to the published numbers as can be: --profile release --prompts upstream --rubric
    upstream (after python -m esr.upstream fetch; README)."""

    prompts: str = field(default="", metavar="SET")
    """Prompt set: a name under data/prompts, held-out, keyed (known answers, for --judge keyed),
    upstream, or a .json or .txt file."""

    latent_filter: LatentFilter = "release"
    """Which latents may be boosted: the release's filter, or the paper's (A.1.2)."""

    calibration: Literal["paper", "adaptive"] = later("paper")
    """How boosts are calibrated: the paper's bisection (A.1.4), or ours, in which latents lean on
    each other and take fewer responses (docs/statistics.md)."""

    judge: str = field(default="", metavar="NAME")
    """Judge; default: the model's (Claude Haiku 4.5 in the paper, section 2.1)."""

    rubric: Literal["own", "own-1", "upstream"] = "own"
    """Wording of the judge's instructions: ours, its first version, or the authors' once
    fetched."""

    seed: int = field(default=0, metavar="N")
    """Run seed; every other seed derives from it."""

    engine: Literal["vllm", "transformers"] = "vllm"
    """What generates: stock vLLM, or the slow reference."""

    pairing: Pairing = "request-id"
    """scheduler-order reproduces the fault of the authors' fork: interventions by list position."""

    in_flight: int = bounded(64, ge=1, le=4096, identity=False, metavar="N")
    """Requests in flight in the engine."""

    tensor_parallel: int = bounded(0, ge=0, le=1024, identity=False, metavar="N")
    """GPUs one model is split over; 0 for all there are, or an equal share for each replica."""

    replicas: int = bounded(1, ge=0, le=1024, identity=False, metavar="N", type=number_or_auto)
    """Engines that share the work, over Ray (docs/scale.md); RAY_ADDRESS names a cluster. auto: as
    many as the GPUs hold, in a cluster with --tensor-parallel."""

    judge_concurrency: int = bounded(CallSettings.concurrency, ge=1, identity=False, metavar="N")
    """Judge calls at once."""

    judge_batch: bool = incidental(False, action="store_true")
    """Judge trials by the provider's batches: half price, hours later; calibration is not."""

    max_spend: float = bounded(0.0, ge=0, identity=False, metavar="DOLLARS")
    """Stop cleanly once judging has cost this much; 0 for no limit."""

    output: str = incidental(str(RESULTS), metavar="FOLDER")
    """Results folder."""

    new: bool = incidental(False, action="store_true")
    """Start a fresh run beside an earlier one of the same options."""

    dry_run: bool = incidental(False, action="store_true")
    """Print calls, tokens, money and memory, and stop: no GPU, no key, no download."""

    def __post_init__(self) -> None:
        if self.model_file:
            # From here on the key stands for the file, in folders and results alike.
            object.__setattr__(self, "model", models.get(self.model_file).key)
        bounds.check(self)
        if self.replicas == 0:
            object.__setattr__(self, "replicas", self._replicas_that_fit())
        if self.as_published:
            self._publish()
        for path in (Path(self.output), *Path(self.output).parents):
            if path.exists() and not path.is_dir():
                raise UserError(
                    f"--output {self.output}: {path} is a file", "a folder", "--output FOLDER"
                )

    def _replicas_that_fit(self) -> int:
        from esr.engine.cluster import replicas_that_fit

        return replicas_that_fit(models.get(self.model), self.in_flight, self.tensor_parallel)

    def _publish(self) -> None:
        """Set the options of :data:`PUBLISHED`; a run of them typed out is the same run."""
        defaults = {f.name: f.default for f in fields(self)}
        for name, value in PUBLISHED.items():
            if getattr(self, name) not in (defaults[name], value):
                raise UserError(
                    f"--as-published with --{name} {getattr(self, name)}",
                    f"--{name} {value}, which it stands for",
                    f"leave one of the two out; it is {_typed(PUBLISHED)}",
                )
            object.__setattr__(self, name, value)

    def identity(self) -> dict[str, Any]:
        """The fields that can change a result, as plain data."""
        values = {
            f: getattr(self, f.name) for f in fields(self) if f.metadata.get("identity", True)
        }
        return {
            f.name: value
            for f, value in values.items()
            if f.metadata.get("identity") != "unless default" or value != f.default
        }


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(CommonConfig):
    """Options of an experiment that replays the trials of experiment 1."""

    parent_required: ClassVar[bool] = True
    """False for an experiment that also knows what to do where there is no such run."""

    from_results: str = incidental("", alias=["--parent"], metavar="PATH")
    """Run folder or results file to replay, ours or the authors'; default: the newest complete
    run of experiment 1 with the same model, profile, prompts, filter, judge and pairing."""

    def parent_model(self) -> str:
        """Key of the model whose run is replayed."""
        return self.model

    def parent_options(self) -> ReplayConfig:
        """Options of the run that may be replayed without being named."""
        return self
