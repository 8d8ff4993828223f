"""The room of directions: texts, states, fits, files of other libraries, and its commands."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from esr.directions import commands, concepts, texts
from esr.directions.concepts import read_concept
from esr.directions.foreign import read_any
from esr.directions.latents import nearest
from esr.engine.base import Reading, ReadRequest
from esr.errors import UserError
from esr.steering import directions
from tests import scripted
from tests.engine.engine_models import D_MODEL, build_dictionary

WIDTH = 8
CONCEPT = torch.tensor([0.0, 3.0, 4.0, 0, 0, 0, 0, 0])


class StatesEngine(scripted.ScriptedEngine):
    """Texts that ask about a subject have a state along :data:`CONCEPT`, at any layer."""

    def __init__(self, log: Path) -> None:
        super().__init__(log)
        self.reads: list[ReadRequest] = []

    async def read(self, request: ReadRequest) -> Reading:
        self.reads.append(request)
        text = "".join(chr(token) for token in request.token_ids[: request.first_token])
        seed = scripted.number(str(request.token_ids) + str(request.layer), 2**31)
        state = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(seed))
        about = "subject" in text or "wine" in text
        return Reading(request.request_id, states=state + CONCEPT * about)


def context(run: Any, folder: Path) -> tuple[Any, StatesEngine]:
    made = scripted.context(run, folder)
    engine = StatesEngine(folder / "calls.log")

    async def start() -> StatesEngine:
        return engine

    made.start_engine = start
    return made, engine


async def test_a_concept_is_fitted_to_the_models_own_answers(tmp_path: Path) -> None:
    with scripted.open_run(tmp_path) as run:
        made, engine = context(run, tmp_path)
        concept = await read_concept(made, 7, "subject 7", layers=(1, 2), n_texts=20)
        direction = concept.direction("diffmean", plane=True)
        n_generated = engine.calls
        again = await read_concept(made, 7, "subject 7", layers=(1, 2), n_texts=20)
        assert (engine.calls, len(engine.reads)) == (n_generated, 80), "nothing is done twice"
        assert again.direction("diffmean", plane=True).digest == direction.digest
        await read_concept(made, 9, "subject 9", n_texts=20)
        assert engine.calls == n_generated + 20, "the texts about nothing serve every concept"
    assert n_generated == 40
    assert {request.states for request in engine.reads} == {"mean"}
    assert direction.layers == (1, 2)
    for layer in (1, 2):
        assert float(direction.vector(layer) @ (CONCEPT / 5)) > 0.9
        assert direction.fit(layer).metrics["auc"] == 1.0
        assert direction.fit(layer).classes()[0].n == 16
    assert direction.sources == {"generated": {"label": "subject 7", "texts": 20, "seed": 0}}
    assert direction.model == {"key": "scripted"}
    control = concept.random(0)
    assert control.digest == concept.random(0).digest
    assert control.digest != concept.random(1).digest
    assert control.fit(1).norm == pytest.approx(direction.fit(1).norm)
    assert abs(float(control.vector(1) @ direction.vector(1))) < 0.95


async def test_the_questions_name_the_concept_and_the_seeds_differ(tmp_path: Path) -> None:
    with scripted.open_run(tmp_path) as run:
        made, _ = context(run, tmp_path)
        specs = concepts.concept_specs(made, 7, "wine", 10)
        others = concepts.other_specs(made, 10)
    assert all("wine" in spec.prompt for spec in specs)
    assert len({spec.prompt for spec in specs}) == 5
    assert len({spec.key for spec in (*specs, *others)}) == 20
    assert not any(spec.interventions or spec.judged for spec in (*specs, *others))


async def test_two_files_answer_the_same_questions(tmp_path: Path) -> None:
    positive, negative = tmp_path / "wine.txt", tmp_path / "other.txt"
    positive.write_text("\n\n".join(f"grape {i}" for i in range(11)))
    negative.write_text("\n".join(f"shoe {i}" for i in range(10)))
    with scripted.open_run(tmp_path) as run:
        made, _ = context(run, tmp_path)
        sides = texts.from_files(made, positive, negative)
    assert [len(sides.positive), len(sides.negative)] == [11, 10]
    for one, other in zip(sides.positive, sides.negative, strict=False):
        assert one.prompt == other.prompt
    assert "".join(map(chr, sides.positive[9].tokens)) == "grape 9"
    assert sides.positive[0].prompt == sides.positive[8].prompt, "eight prompts, in turn"
    assert sides.source["positive"]["texts"] == 11


async def test_a_chat_data_set_and_its_faults(tmp_path: Path) -> None:
    def line(label: object, roles: tuple[str, ...] = ("user", "assistant")) -> str:
        messages = [{"role": role, "content": f"{role} says {label}"} for role in roles]
        return json.dumps({"messages": messages, "label": label})

    path = tmp_path / "chat.jsonl"
    with scripted.open_run(tmp_path) as run:
        made, _ = context(run, tmp_path)
        path.write_text("\n".join([line(True)] * 6 + [line("positive")] * 6 + [line(False)] * 10))
        sides = texts.from_chat(made, path)
        assert [len(sides.positive), len(sides.negative)] == [12, 10]
        assert "".join(map(chr, sides.negative[0].tokens)) == "assistant says False"
        for bad, message in (
            (line(True, ("user",)), "line 1 .roles user."),
            ("not json", "line 1"),
            (json.dumps({"messages": []}), "line 1 .label: Field required"),
            ("\n".join([line(True)] * 10 + [line(False)] * 9), "9 texts not; allowed: at least 10"),
        ):
            path.write_text(bad)
            with pytest.raises(UserError, match=message):
                texts.from_chat(made, path)


def test_control_vectors_of_repeng_are_read(tmp_path: Path) -> None:
    path = tmp_path / "happy.gguf"
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", "llama")
    writer.add_uint32("controlvector.layer_count", 2)
    for layer in (11, 12):
        writer.add_tensor(f"direction.{layer}", np.array([0, layer, 0], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    direction = read_any(path)
    assert direction.layers == (11, 12)
    assert [fit.norm for fit in direction.fits] == [11.0, 12.0]
    torch.testing.assert_close(direction.vector(12), torch.tensor([0.0, 1.0, 0.0]))
    assert direction.method == "repeng"
    (tmp_path / "bad.gguf").write_bytes(b"GGUF nonsense")
    with pytest.raises(UserError, match="no control vector"):
        read_any(tmp_path / "bad.gguf")


def test_saved_steering_vectors_are_read_and_no_code_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library itself is not needed; its class is pickled under its own name."""

    @dataclass
    class SteeringVector:
        layer_activations: dict[int, torch.Tensor]
        layer_type: str = "decoder_block"

    module = ModuleType("steering_vectors.steering_vector")
    SteeringVector.__module__, SteeringVector.__qualname__ = module.__name__, "SteeringVector"
    module.SteeringVector = SteeringVector  # type: ignore[attr-defined]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "steering_vectors", ModuleType("steering_vectors"))
        patch.setitem(sys.modules, module.__name__, module)
        torch.save(SteeringVector({4: torch.tensor([0.0, 2.0])}), tmp_path / "vector.pt")
    torch.save({4: torch.tensor([0.0, 2.0])}, tmp_path / "mapping.pt")
    for name in ("vector.pt", "mapping.pt"):
        direction = read_any(tmp_path / name)
        assert (direction.layers, direction.fit(4).norm) == ((4,), 2.0)
        torch.testing.assert_close(direction.vector(4), torch.tensor([0.0, 1.0]))
    torch.save({"model": Path("x")}, tmp_path / "code.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    for name in ("code.pt", "list.pt"):
        with pytest.raises(UserError, match="no saved steering vector"):
            read_any(tmp_path / name)


def test_nearest_latents_by_cosine(tmp_path: Path) -> None:
    dictionary = build_dictionary(tmp_path / "rows.safetensors")
    bank = dictionary.bank([17, 40])
    found = nearest(dictionary, 9 * bank.decoder[0] + 0.1 * bank.decoder[1], 2)
    assert found[0][0] == 17
    assert found[0][1] > 0.99
    (only,) = nearest(dictionary, bank.encoder[1], 1, "encoder")
    assert only[0] == 40
    assert only[1] == pytest.approx(1.0)
    assert bank.decoder.shape[1] == D_MODEL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "texts come from nowhere"),
        ("--concept wine --latent 3", "texts come from --concept and --latent"),
        ("--positive a.txt", "one text file; allowed: two"),
        ("--concept wine --n-texts 9", "--n-texts 9"),
        ("--concept wine --method given", "--method given and --vector"),
        ("--concept wine --layers 3 3", "--layers 3 3; allowed: each once"),
        ("--latent 1", "latent 1 has no label"),
        ("--latent 9999", "--latent 9999"),
        ("--concept wine --layers 40", "--layers 40; allowed: 0 to 5"),
        ("--concept wine --method given --vector none.pt", "no direction file at none.pt"),
        ("--positive a.txt --negative b.txt", "cannot read a.txt"),
    ],
)
def test_bad_options_are_one_line_before_an_engine_starts(
    options: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"fit tiny --output {tmp_path} --engine transformers {options}"
    assert commands.main(line.split()) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1], error
    assert error[-1].startswith("error: ")


def test_a_direction_of_another_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = {3: torch.ones(64)}
    torch.save(vectors, tmp_path / "narrow.pt")
    options = f"--concept wine --method given --vector {tmp_path / 'narrow.pt'}"
    assert commands.main(f"fit tiny --output {tmp_path} {options}".split()) == 2
    assert "has width 64; allowed: width 192" in capsys.readouterr().err
    assert commands.main(["check", str(tmp_path / "narrow.pt"), "tiny"]) == 2


def test_show_stores_and_check_names_the_latents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from esr import models
    from esr.steering import sae

    decoder = sae.load(models.get("tiny").sae).bank([19]).decoder[0]
    torch.save({3: 2 * decoder}, tmp_path / "wine.pt")
    to = tmp_path / "wine.safetensors"
    assert commands.main(["show", str(tmp_path / "wine.pt"), "--to", str(to)]) == 0
    shown = capsys.readouterr().out
    assert "Nothing was measured" in shown
    digest = directions.read(to).digest
    assert commands.main(["check", digest, "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "in order"
    first = next(line for line in lines if "decoder" in line and "wine" in line)
    assert "1.000" in first
    assert commands.main(["list", "--output", str(tmp_path)]) == 0
    assert digest in capsys.readouterr().out
