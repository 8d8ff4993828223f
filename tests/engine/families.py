"""Tiny random models of many families, steered in vLLM and with a plain Hugging Face hook.

``python -m tests.engine.families`` runs all of them, each in a process of its own, and writes
docs/models.md; with names, those alone, and writes nothing. ``make test`` runs a few of them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch

from esr.engine.base import ReadRequest
from esr.engine.options import VllmOptions
from esr.errors import EngineError, UserError
from esr.models import Calibration, ModelSpec, SaeSource
from esr.steering.directions import store
from tests.engine.engine_models import (
    CONTEXT,
    D_SAE,
    LAYERS,
    MORE_LAYERS,
    build_dictionary,
    build_direction,
    mixed_requests,
    slot_requests,
    tokenizer,
)
from tests.engine.family_configs import COMMON, D_MODEL, FAMILIES
from tests.engine.plain_hook import PlainHook

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "models.md"

N_REQUESTS, N_SLOTS = 30, 14
"""In all, and of those with slots, layers, scopes and given prefixes."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One row of docs/models.md.

    Attributes:
        architecture: the class vLLM runs it with.
        returns: what its layers return, see :mod:`esr.steering.stream`.
        equal: requests of :data:`N_REQUESTS` whose tokens equal the plain hook's.
        power: requests whose tokens change where the plain hook is left out, of ``steered``.
        alone: largest difference of an unsteered read's activations, relative to the largest:
            how far vLLM's model itself is from Hugging Face's.
        reads: the same of all reads.
        refused: by our self-test or hook, and why.
        not_started: vLLM's reason.
    """

    family: str
    architecture: str = ""
    returns: str = ""
    equal: int = 0
    steered: int = 0
    power: int = 0
    alone: float = 0.0
    reads: float = 0.0
    refused: str = ""
    not_started: str = ""

    @property
    def fine(self) -> bool:
        """Whether steering and reads are right in vLLM."""
        return self.equal == N_REQUESTS and self.reads < max(1e-4, 3 * self.alone)


def build(family: str, folder: Path) -> ModelSpec:
    """Write a random float32 model of a family with its tokenizer; the same bytes every time."""
    import transformers

    name, options = FAMILIES[family]
    config = getattr(transformers, name)(**{**COMMON, **options})
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    # Wide weights make sharp distributions. Tied embeddings stay small, or every token would
    # predict itself.
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for label, weight in model.named_parameters():
        if weight.dim() >= 2:
            embedding = "embed" in label or "wte" in label
            std = (0.02 if tied else 1.0) if embedding else weight.shape[-1] ** -0.5
            torch.nn.init.normal_(weight, std=std)
        elif label.endswith(("norm.weight", ".bias")):
            torch.nn.init.normal_(weight, mean=float(label.endswith("weight")), std=0.1)
    model.generation_config.eos_token_id = 2
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return ModelSpec(
        key=family,
        title=family,
        hf_id=str(folder),
        sae=SaeSource(),
        steering_layer=1,
        feature_layer=2,
        d_model=D_MODEL,
        d_sae=D_SAE,
        calibration=Calibration(1, 1, 1.0, 1.0, 0.0, 1.0),
        context=CONTEXT,
        dtype="float32",
    )


async def compare(family: str, folder: Path) -> Outcome:
    """A mixed batch of :data:`N_REQUESTS` and nine reads, in vLLM and with the plain hook."""
    from esr.engine.vllm import VllmEngine

    torch.set_num_threads(1)
    spec = build(family, folder / "model")
    dictionary = build_dictionary(folder / "rows.safetensors", D_MODEL)
    direction = build_direction(D_MODEL)
    store(direction)
    plain = mixed_requests(N_REQUESTS - N_SLOTS, seed=20, scale=30.0)
    slots = slot_requests(N_SLOTS, direction.digest, seed=21, scale=30.0)
    requests = [*plain, *slots]
    reads = [
        ReadRequest(
            request.request_id,
            request.prompt_token_ids,
            (7, 3, 250),
            request.interventions,
            n_prompt=len(request.prompt_token_ids) // 2,
        )
        for request in (*plain[:3], *slots[:6])
    ]
    # The reference first: vLLM's Transformers backend decorates Hugging Face's classes.
    hook = PlainHook(spec, dictionary.bank(range(D_SAE)), {direction.digest: direction.vectors})
    expected = [hook.generate(request) for request in requests]
    unsteered = [hook.generate(dataclasses.replace(r, interventions=())) for r in requests]
    activations = [hook.read(read) for read in reads]
    try:
        engine = VllmEngine(spec, dictionary, VllmOptions(16, in_process=True, layers=MORE_LAYERS))
    except UserError as error:
        return Outcome(family, not_started=error.problem[:300].split(" (details")[0])
    try:
        architecture, returns = await engine.streams()
        answers = await asyncio.gather(*(engine.generate(request) for request in requests))
        readings = [await engine.read(read) for read in reads]
    except UserError as error:
        return Outcome(family, refused=error.problem)
    except EngineError as error:
        return Outcome(family, not_started=str(error))
    finally:
        await engine.close()
    differences = [
        float((reading.values - values).abs().max() / values.abs().max())
        for reading, values in zip(readings, activations, strict=True)
        if reading.values is not None
    ]
    return Outcome(
        family,
        architecture,
        returns,
        equal=sum(a.token_ids == b for a, b in zip(answers, expected, strict=True)),
        steered=sum(bool(request.interventions) for request in requests),
        power=sum(a != b for a, b in zip(expected, unsteered, strict=True)),
        alone=differences[0],
        reads=max(differences),
    )


def in_own_process(family: str) -> Outcome:
    """The same in a process of its own, so that no family disturbs another. It is forked, because
    importing vLLM takes longer than all the rest."""
    import vllm.v1.engine.llm_engine

    del vllm
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_compare_and_send, args=(family, send))
    child.start()
    send.close()
    try:
        return cast("Outcome", receive.recv())
    except EOFError:
        child.join()
        return Outcome(family, not_started=f"its process ended with status {child.exitcode}")


def _compare_and_send(family: str, send: Connection) -> None:
    with tempfile.TemporaryDirectory() as folder, send:
        try:
            send.send(asyncio.run(compare(family, Path(folder))))
        except Exception as error:
            send.send(Outcome(family, not_started=f"{type(error).__name__}: {error}"[:300]))


def document(outcomes: Sequence[Outcome]) -> str:
    """docs/models.md."""
    import transformers
    import vllm

    lines = [
        "# Model families that were tested",
        "",
        "Written by `make models`; a model of a family that is not here is tested by the engine "
        "itself before its",
        "first request (`esr/engine/self_test.py`), and refused if it fails.",
        "",
        f"Each family is a random float32 model ({LAYERS} layers, width {D_MODEL}) steered at "
        f"layer 1 by a random JumpReLU SAE of {D_SAE}",
        f"latents: {N_REQUESTS} greedy requests in one batch (unsteered, boosted, clamped, "
        f"scaled, mixed; prompts of 3 to 70 tokens; {N_SLOTS}",
        "of them with gated slots, a fitted direction, a rotation, several layers, scopes and "
        "given prefixes),",
        "compared token for token with a Hugging Face hook written from the definitions, one "
        "request at a time. *Power*: steered",
        "requests whose tokens change when the hook is left out. *Reads*: largest difference of "
        "a latent read at layer 2, relative",
        "to the largest activation; *alone*: the same without steering, which is how far vLLM's "
        "model is from Hugging Face's.",
        "In bold: not equal. *Returns*: what a layer returns in vLLM, measured "
        "(`esr/steering/stream.py`).",
        "",
        f"vLLM {vllm.__version__} on the CPU, transformers {transformers.__version__}, torch "
        f"{torch.__version__}; {time.strftime('%d %b %Y')}. Nothing here was run on a GPU.",
        "",
        "| family | class in vLLM | returns | equal | power | alone | reads |",
        "|---|---|---|---|---|---|---|",
    ]
    ran = [o for o in outcomes if not o.refused and not o.not_started]
    lines += [
        f"| {o.family} | {o.architecture} | {o.returns} | "
        f"{'' if o.fine else '**'}{o.equal}/{N_REQUESTS}{'' if o.fine else '**'} | "
        f"{o.power}/{o.steered} | {o.alone:.0e} | {o.reads:.0e} |"
        for o in ran
    ]
    for title, attribute in (
        ("Refused by our tests", "refused"),
        ("Not run by this vLLM, with its reason", "not_started"),
    ):
        rows = [o for o in outcomes if getattr(o, attribute)]
        if rows:
            lines += ["", f"## {title}", "", "| family | reason |", "|---|---|"]
            lines += [f"| {o.family} | {getattr(o, attribute).replace('|', '/')} |" for o in rows]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """All families, or those named."""
    torch.set_num_threads(1)
    outcomes = []
    for family in arguments or FAMILIES:
        outcomes.append(in_own_process(family))
        print(outcomes[-1], flush=True)
    if not arguments:
        DOCUMENT.write_text(document(outcomes), encoding="utf-8")
    return int(any(not (o.fine or o.refused or o.not_started) for o in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
