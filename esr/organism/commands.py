"""``python -m esr.organism build``, ``weaken`` and ``gates``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from simple_parsing import field

from esr.organism.recipe import MEMBERS
from esr.pipeline.cli import CommonConfig
from esr.runs import commands
from esr.runs.paths import ORGANISM, RESULTS

PROGRAM = "python -m esr.organism"
SHORT = {name.removeprefix("tiny-"): name for name in MEMBERS if name != "tiny"}


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Train model, SAE and labels from a seed."""

    seed: int = field(default=0, metavar="N")
    """Of the whole build."""

    member: str = field(default="", choices=["", *MEMBERS, *SHORT], metavar="MEMBER")
    """One member of the family: tiny, base, restarts or circuit; all where left out."""

    output: str = field(default=str(ORGANISM), metavar="FOLDER")
    """Folder to write to."""

    threads: int = field(default=1, metavar="N")
    """Threads of torch; one is fastest."""


@dataclass(frozen=True, kw_only=True)
class WeakenOptions:
    """Mix tiny-circuit with tiny: a weaker circuit, for `gates circuit FOLDER`."""

    share: float = field(default=0.5, metavar="SHARE")
    """Of the way from tiny, 0, to tiny-circuit, 1."""

    output: str = field(default="weakened", metavar="FOLDER")
    """Folder to write to."""


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """Measure the gates of build folders; `gates circuit` those of tiny-circuit."""

    folders: tuple[str, ...] = field(default=(), positional=True, nargs="*", metavar="FOLDER")
    """One per seed; data/organism where left out. The word circuit before them asks for K1 to K6,
    measured by experiments 1, 3, 6, 9 and 10."""

    json: str = field(default="", metavar="FILE")
    """File to write; default: gates.json or circuit-gates.json in data/organism."""

    engine: Literal["vllm", "transformers"] = "vllm"
    """What generates."""

    seed: int = field(default=0, metavar="N")
    """Run seed of the measurement."""

    latents: int = field(default=40, metavar="N")
    """Most latents that are boosted."""

    trials: int = field(default=10, metavar="N")
    """Trials per latent."""

    sets: int = field(default=20, metavar="N")
    """Matched random sets (circuit)."""

    results: str = field(default=str(RESULTS), metavar="FOLDER")
    """Folder of the run folders."""


def build(options: BuildOptions) -> None:
    """Train the organism."""
    import torch

    from esr.organism.build import build

    torch.set_num_threads(options.threads)
    wanted = SHORT.get(options.member, options.member)
    members = [member for member in MEMBERS if wanted in ("", member)]
    build(options.seed, Path(options.output), members)


def weaken(options: WeakenOptions) -> None:
    """Write a weaker circuit."""
    import torch

    from esr.organism.weakened import weaken

    torch.set_num_threads(1)
    weaken(options.share, Path(options.output))


def gates(options: GateOptions) -> None:
    """Measure the gates and print the table."""
    names = list(options.folders)
    circuit = names[:1] == ["circuit"]
    folders = [Path(name) for name in names[circuit:]] or [ORGANISM]
    file = "circuit-gates.json" if circuit else "gates.json"
    measured = Path(options.json) if options.json else ORGANISM / file
    (_circuit_gates if circuit else _gates)(options, folders, measured)


def _gates(options: GateOptions, folders: Sequence[Path], measured: Path) -> None:
    """G1 to G5."""
    from esr.organism.gate_trials import Scale
    from esr.organism.gates import run, table

    config = CommonConfig(engine=options.engine, seed=options.seed, output=options.results)
    run(folders, measured, config, Scale(latents=options.latents, trials=options.trials))
    print(table(measured))


def _circuit_gates(options: GateOptions, folders: Sequence[Path], measured: Path) -> None:
    """K1 to K6, and what the procedure finds with and without a circuit."""
    from esr.organism.circuit_gates import run
    from esr.organism.circuit_runs import Plan
    from esr.organism.circuit_table import answer_table, gate_table, weak_table

    plan = Plan(
        output=Path(options.results),
        latents=options.latents,
        trials=options.trials,
        sets=options.sets,
        engine=options.engine,
        seed=options.seed,
    )
    run(folders, measured, plan)
    tables = (gate_table(measured), answer_table(measured), weak_table(measured))
    print(*filter(None, tables), sep="\n\n")


STEPS = {
    "build": commands.step(BuildOptions, build, f"{PROGRAM} build"),
    "weaken": commands.step(WeakenOptions, weaken, f"{PROGRAM} weaken"),
    "gates": commands.step(GateOptions, gates, f"{PROGRAM} gates"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commands.choose(PROGRAM, STEPS, argv=argv)
