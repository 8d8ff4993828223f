"""``python -m esr.directions fit``, ``show``, ``check`` and ``list``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from simple_parsing import field

from esr import models
from esr.directions.fit import EXPERIMENT, FILE_NAME, NAME
from esr.directions.tables import lines
from esr.pipeline import experiment
from esr.runs import commands
from esr.runs.bounds import bounded
from esr.runs.folder import find_runs
from esr.runs.paths import RESULTS, cache

if TYPE_CHECKING:
    from esr.steering.direction import Direction

PROGRAM = "python -m esr.directions"


@dataclass(frozen=True)
class ListOptions:
    """Directions that were fitted here."""

    output: str = field(default=str(RESULTS), metavar="FOLDER")
    """Results folder."""


@dataclass(frozen=True)
class ShowOptions:
    """What a direction file holds; it is stored, so that its digest can be used."""

    file: str = field(positional=True, metavar="FILE or DIGEST")
    """A direction file, its digest, a control vector (.gguf) or a steering-vectors file (.pt)."""

    to: str = field(default="", metavar="FILE")
    """Write it as a direction file."""


@dataclass(frozen=True)
class CheckOptions:
    """Refuse a direction that cannot steer a model; say which latents it is closest to."""

    file: str = field(positional=True, metavar="FILE or DIGEST")
    """As for show."""

    model: str = field(default="tiny", positional=True, nargs="?", metavar="MODEL")
    """Model key, or a file of your own."""

    nearest: int = bounded(5, ge=1, le=100, metavar="N")
    """Latents listed per vector."""


def list_directions(options: ListOptions) -> None:
    """Print a line per file."""
    from esr.steering import directions

    files = [
        path / FILE_NAME
        for model in sorted(Path(options.output).glob(f"{NAME}/*"))
        for path in find_runs(Path(options.output), NAME, model.name)
    ]
    files += sorted((cache() / "directions").glob("*.safetensors"))
    shown: set[str] = set()
    for file in files:
        if not file.is_file():
            continue
        direction = directions.read(file)
        if direction.digest not in shown:
            shown.add(direction.digest)
            where = ", ".join(map(str, direction.layers))
            print(
                f"{direction.digest}  {direction.method:9} layers {where:8} "
                f"{direction.model.get('key', 'unknown'):10} {direction.name}  ({file})"
            )
    if not shown:
        print(f'none yet; {PROGRAM} fit tiny --concept "wine" makes one')


def show(options: ShowOptions) -> None:
    """Print what is known of each vector."""
    from esr.steering import directions

    direction = _read(options.file)
    directions.store(direction)
    print("\n".join(lines({**direction.metadata(), "digest": direction.digest})))
    if options.to:
        print(f"  written: {directions.write(direction, Path(options.to))}")


def check(options: CheckOptions) -> None:
    """Compare with a model and its SAE; needs the SAE alone, no weights.

    Raises:
        UserError: another width or model, or a layer that the model does not have.
    """
    from esr.directions.latents import nearest
    from esr.models.identity import model_identity
    from esr.models.labels import load_labels
    from esr.steering import sae

    spec = models.get(options.model)
    direction = _read(options.file)
    direction.check_model(spec.d_model, model_identity(spec))
    print("\n".join(lines({**direction.metadata(), "digest": direction.digest})))
    labels = load_labels(spec, required=False)
    dictionary = sae.load(spec.sae)
    print(f"  nearest latents by cosine, of {dictionary.d_sae:,}:")
    for fit, vector in zip(direction.fits, direction.vectors, strict=True):
        for rows in ("decoder", "encoder"):
            for latent, cosine in nearest(dictionary, vector, options.nearest, rows):
                print(
                    f"  layer {fit.layer} {fit.role:7}{rows:8}{cosine:>7.3f}  {latent:>7} "
                    f"{labels.get(latent, '')}"
                )
    if any(fit.layer != spec.feature_layer for fit in direction.fits):
        print(f"  the SAE belongs to layer {spec.feature_layer}: cosines of others say less")
    print("in order")


def _read(name: str) -> Direction:
    from esr.directions.foreign import read_any
    from esr.steering import directions

    path = Path(name)
    return read_any(path) if path.exists() or path.suffix else directions.load(name)


def fit(argv: Sequence[str]) -> int:
    """Fit a direction to texts: two files, a chat data set, or the model's own about a concept."""
    return experiment.main(EXPERIMENT, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    steps = {
        "fit": fit,
        "show": commands.step(ShowOptions, show, f"{PROGRAM} show"),
        "check": commands.step(CheckOptions, check, f"{PROGRAM} check"),
        "list": commands.step(ListOptions, list_directions, f"{PROGRAM} list"),
    }
    return commands.choose(PROGRAM, steps, argv=argv)
