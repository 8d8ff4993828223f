"""What a command needs, and whether it is there: listed by ``--dry-run``, and asked for before an
engine starts, so that nothing is found missing after hours of loading.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from esr import judge
from esr.engine import memory, throughput
from esr.errors import UserError
from esr.models import ModelSpec
from esr.models.identity import model_identity, unresolved
from esr.models.labels import load_labels
from esr.models.weights import GIB, gib, is_local, require_files, shape_of, weight_bytes
from esr.pipeline import replay
from esr.pipeline.cli import CommonConfig, ReplayConfig
from esr.pipeline.detector_files import DetectorConfig
from esr.pipeline.opening import complete_place, located
from esr.pipeline.stages import Stage
from esr.runs import hub, provenance
from esr.runs.paths import cache

State = Literal["ready", "missing", "not checked", "not needed"]

BYTES_PER_RESPONSE, BYTES_PER_TOKEN = 4_000, 40
"""On disk, in journal and results, for a response and for each of its tokens: estimates, above
what runs of the organism take."""


@dataclass(frozen=True)
class Need:
    """One thing.

    Attributes:
        what: its name.
        state: "not checked" where only the network or the engine could tell.
        detail: where it is, or what to do.
    """

    what: str
    state: State
    detail: str


def needs(
    config: CommonConfig,
    spec: ModelSpec,
    stages: Sequence[Stage],
    *,
    judges: Sequence[str] = (),
    online: bool = False,
    engine: bool = True,
) -> list[Need]:
    """Everything a command needs.

    Args:
        config: its options.
        spec: its model.
        stages: what it will ask of engine and judge.
        judges: who is asked, where not the judge of the options.
        online: whether the network may be asked.
        engine: False leaves out what only the engine needs.
    """
    asked = any((stage.judged and stage.responses) or stage.asked for stage in stages)
    names = judges or ((config.judge or spec.judge,) if asked else ())
    needed = [
        _parent(config, spec),
        _detectors(config),
        *(judge_key(name) for name in dict.fromkeys(names)),
    ]
    if any(stage.labels for stage in stages):
        needed.append(checked("labels", lambda: f"{len(load_labels(spec)):,} in {spec.label_file}"))
    if engine and any(stage.responses or stage.reads for stage in stages):
        needed += [weights(spec, online), _dictionary(spec, online), _memory(config, spec)]
    needed += _disk(config, spec, stages)
    return [need for need in needed if need is not None]


def lines(needed: Iterable[Need]) -> list[str]:
    """The list, one line each."""
    return [f"{need.state:12} {need.what:14} {need.detail}" for need in needed]


def refuse(needed: Sequence[Need]) -> None:
    """End the command where something is missing.

    Raises:
        UserError: names what is.
    """
    missing = [need for need in needed if need.state == "missing"]
    if len(missing) == 1:
        raise UserError(f"missing: {missing[0].what}: {missing[0].detail}")
    if missing:
        names = ", ".join(need.what for need in missing)
        raise UserError(f"missing: {names}", "all ready", "see the list above")


def before(
    name: str,
    parts: Sequence[CommonConfig],
    spec: ModelSpec,
    stages: Sequence[Stage],
    judges: Sequence[str] = (),
) -> None:
    """Before a run starts: the list on stderr where several things are missing.

    A run that is complete needs nothing. One that was begun may have all its generations on disk,
    and then needs no GPU: what the engine wants is left to the engine.

    Args:
        name: of the experiment.
        parts: options of its runs; what one needs, all need.
        spec: its model.
        stages: what it will ask of engine and judge.
        judges: who is asked, where not the judge of the options.

    Raises:
        UserError: something is missing.
    """
    named_by = [need for need in (_parent(parts[0], spec), _detectors(parts[0])) if need]
    states = [""]
    if all(need.state != "missing" for need in named_by):
        if all(complete_place(name, part, spec) for part in parts):
            return
        # A model that this machine does not know yet has no run that was begun.
        if not unresolved(model_identity(spec)):
            states = [located(name, part, spec).folder.status for part in parts]
    new = not any(states)
    needed = needs(parts[0], spec, stages, judges=judges, online=True, engine=new)
    if sum(need.state == "missing" for need in needed) > 1:
        print("\n".join(lines(needed)), file=sys.stderr)
    refuse(needed)


def checked(what: str, find: Callable[[], str]) -> Need:
    """Ready with what ``find`` returns; missing with the line of the UserError it raises."""
    try:
        return Need(what, "ready", find())
    except UserError as error:
        return Need(what, "missing", str(error))


def _parent(config: CommonConfig, spec: ModelSpec) -> Need | None:
    if not isinstance(config, ReplayConfig):
        return None
    if config.parent_required or config.from_results:
        return checked("parent run", lambda: str(replay.find(config, spec).path))
    parent = replay.find_or_none(config, spec)
    if parent is not None:
        return Need("parent run", "ready", str(parent.path))
    first = f"python -m {replay.EXPERIMENT_1} {spec.key}"
    return Need("parent run", "not needed", f"but makes this cheap: {first}")


def _detectors(config: CommonConfig) -> Need | None:
    if not isinstance(config, DetectorConfig):
        return None
    return checked(
        "detectors",
        lambda: f"{len(config.detector_set.latents)} in {config.detector_set.path}",
    )


def judge_key(name: str, otherwise: str = "--judge lexical") -> Need:
    """The key of a judge or a writer, by name; it is not tried.

    Args:
        name: as typed.
        otherwise: the option that needs no key.
    """
    variable = judge.key_variable(name)
    if not variable:
        model = judge.resolve(name)
        return Need("judge", "ready" if name == model else "not checked", f"{name}: needs no key")
    if judge.has_key(name):
        return Need("judge's key", "ready", f"{variable}, for {name}; not tried")
    where = "the environment or .env"
    return Need(
        "judge's key",
        "missing",
        f"{variable}, for {name}; allowed: a key in {where}; next: a line {variable}=... in .env "
        f"(.env.example), or {otherwise}",
    )


def weights(spec: ModelSpec, online: bool) -> Need:
    """The weights: a folder, or a repository of the hub."""
    if is_local(spec) or online:
        return checked("weights", lambda: _required(spec))
    snapshot = hub.cached(spec.hf_id, spec.revision)
    if snapshot is None:
        detail = f"{spec.hf_id} is not on this machine and would be downloaded{_size(spec)}"
        return Need("weights", "not checked", detail)
    missing = _missing_files(snapshot)
    if missing:
        return Need("weights", "not checked", f"{missing} files of {spec.hf_id} are still to come")
    return Need("weights", "ready", str(snapshot))


def _required(spec: ModelSpec) -> str:
    require_files(spec)
    return spec.hf_id


def _missing_files(snapshot: Path) -> int:
    """Files of weights that a snapshot lists and does not hold."""
    index = snapshot / "model.safetensors.index.json"
    if not index.is_file():
        return int(not any(snapshot.glob("*.safetensors")))
    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return sum(not (snapshot / name).is_file() for name in names)


def _size(spec: ModelSpec) -> str:
    shape = shape_of(spec)
    return f" ({gib(weight_bytes(spec, shape, quantised=False))})" if shape else ""


def _dictionary(spec: ModelSpec, online: bool) -> Need:
    folder = spec.sae.folder
    if folder is not None:
        if (folder / "cfg.json").is_file():
            return Need("SAE", "ready", str(folder))
        fault = f"{folder} has no cfg.json; allowed: a folder as SAELens saves it"
        return Need("SAE", "missing", f"{fault}; next: correct the SAE of the model's entry")
    if not online:
        return Need("SAE", "not checked", f"{spec.sae.describe()}, downloaded on first use")
    from esr.steering.sae import check_release

    def reachable() -> str:
        hub.require(check_release(spec.sae))
        return spec.sae.describe()

    return checked("SAE", reachable)


def _memory(config: CommonConfig, spec: ModelSpec) -> Need:
    if os.environ.get("RAY_ADDRESS"):
        return Need("memory", "not checked", "the engines run elsewhere in the cluster")
    if shape_of(spec) is None:
        return Need("memory", "not checked", "the shape of the model is not known")
    gpus = throughput.gpus(provenance.gpus())
    ranks = config.tensor_parallel or max(1, len(gpus) // config.replicas)
    devices = [gpu.memory for gpu in gpus]
    where = f"{len(gpus)} x {gpus[0].name}" if gpus else "main memory; there is no GPU here"

    def fits() -> str:
        memory.check(spec, config.engine, ranks, config.in_flight, devices)
        return f"the model fits {where}"

    return checked("memory", fits)


def _disk(config: CommonConfig, spec: ModelSpec, stages: Sequence[Stage]) -> list[Need]:
    """Room for the results, and for the weights where they are still to be downloaded."""
    responses = sum(stage.responses for stage in stages)
    tokens = sum(stage.responses * stage.max_tokens for stage in stages)
    reads = sum(stage.reads for stage in stages)
    size = responses * BYTES_PER_RESPONSE + tokens * BYTES_PER_TOKEN + reads * 12 * spec.d_sae
    wanted = {"disk, results": (Path(config.output), size)}
    shape = shape_of(spec)
    if any(stage.responses or stage.reads for stage in stages) and shape and not is_local(spec):
        if hub.cached(spec.hf_id, spec.revision) is None:
            weights = weight_bytes(spec, shape, quantised=False)
            wanted["disk, weights"] = (hub.folder(spec.hf_id), weights)
        rows = 2 * spec.d_sae * 4 * spec.d_model
        wanted["disk, SAE"] = (cache(), rows)
    return [room(what, path, size) for what, (path, size) in wanted.items()]


def room(what: str, path: Path, size: int) -> Need:
    """Room for ``size`` bytes under a folder that may not be there yet."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    total, _, free = shutil.disk_usage(there)
    if not total:
        return Need(what, "not checked", f"{there} does not say how much is free")
    amount = gib(size) if size > GIB / 100 else f"{size / 2**20:.1f} MiB"
    detail = f"at most about {amount} under {path}, {gib(free)} are free"
    if size < free:
        return Need(what, "ready", detail)
    return Need(what, "missing", f"{detail}; allowed: {amount}; next: free some space")
