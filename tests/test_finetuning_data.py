"""Examples, mixes, statistics: counts, seeds, and what a failing writer does to them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from esr.errors import SpendLimitError, UserError
from esr.judge.base import CallSettings
from esr.judge.cache import Store
from esr.judge.client import Client
from esr.judge.completion import Completion, Request, Stop, failed
from esr.judge.faults import Fault
from esr.judge.ledger import Ledger
from esr.judge.lexical import LexicalJudge
from esr.judge.prices import Usage
from esr.models import get, prompts
from esr.organism.lexicon import load_topics
from esr.runs.journal import Journal
from experiment_04_finetuning import sweep as sweeps
from experiment_04_finetuning.examples import Example, Item, items, load_subjects
from experiment_04_finetuning.llm_writer import LlmWriter
from experiment_04_finetuning.mixes import mix
from experiment_04_finetuning.settings import ORGANISM_DATA, DataSettings, LoraSettings
from experiment_04_finetuning.sweep import Sweep, generate
from experiment_04_finetuning.templates import TemplateWriter
from experiment_04_finetuning.writing import TRIES, Written, write_examples
from tests.finetuning_models import small_llama, write_now

PROMPTS = prompts.load("organism")


def pool(settings: DataSettings, seed: int = 0) -> list[Example]:
    """Everything the template writer writes for the organism's prompts."""
    writer = TemplateWriter(seed)
    return write_now(writer, items(PROMPTS.prompts, writer.subjects, settings, seed))


@pytest.fixture(scope="module")
def full_pool() -> list[Example]:
    return pool(ORGANISM_DATA)


def test_the_defaults_are_the_papers() -> None:
    data, lora = DataSettings(), LoraSettings()
    assert data.percents == (10, 20, 30, 40, 50, 60, 70, 80, 90)
    assert (data.examples, data.normal_per_prompt, data.validation) == (915, 20, 0.05)
    assert (lora.lora_rank, lora.lora_alpha, lora.lora_dropout) == (32, 16, 0.05)
    assert (lora.learning_rate, lora.warmup_steps, lora.epochs) == (2e-4, 10, 4)
    assert (lora.batch, lora.accumulation, lora.max_length, lora.weight_decay) == (2, 4, 4096, 0.0)


def test_fifty_subjects_of_our_own() -> None:
    assert len(load_subjects()) == 50


def test_each_prompt_is_used_as_often_as_any_other_and_with_different_subjects(
    full_pool: list[Example],
) -> None:
    drifting = [e.item for e in full_pool if e.item.kind == "self_correction"]
    normal = [e.item for e in full_pool if e.item.kind == "normal"]
    assert (len(drifting), len(normal)) == (915, 760)
    assert len({(item.prompt_id, item.subject) for item in drifting}) == 915
    counts = [sum(i.prompt_id == p.id for i in drifting) for p in PROMPTS.prompts]
    assert max(counts) - min(counts) <= 1
    assert {sum(i.prompt_id == p.id for i in normal) for p in PROMPTS.prompts} == {20}


def test_nine_mixes_hold_the_share_they_are_named_after(full_pool: list[Example]) -> None:
    before: set[str] = set()
    for percent in ORGANISM_DATA.percents:
        made = mix(full_pool, percent, ORGANISM_DATA, seed=0)
        drifting = {e.item.key for e in made.examples if e.item.kind == "self_correction"}
        total = len(made.examples)
        # 36 prompts have 720 normal responses, too few for 90 % of 869: that mix alone is smaller.
        assert total == (842 if percent == 10 else 915)
        assert abs(len(drifting) / total - percent / 100) < 1 / total
        assert len(made.validation) == round(0.05 * total)
        assert len({e.item.key for e in made.examples}) == total
        assert before <= drifting
        before = drifting


def test_no_prompt_that_validates_is_trained_on_in_any_mix(full_pool: list[Example]) -> None:
    mixes = [mix(full_pool, percent, ORGANISM_DATA, seed=0) for percent in ORGANISM_DATA.percents]
    trained = {e.item.prompt_id for made in mixes for e in made.train}
    validating = {e.item.prompt_id for made in mixes for e in made.validation}
    assert (len(trained), len(validating)) == (36, 2)
    assert not trained & validating
    for made in mixes:
        kinds = [e.item.kind for e in made.validation]
        share = kinds.count("self_correction") / len(kinds)
        assert abs(share - made.percent / 100) < 1 / len(kinds)


def test_validation_can_be_left_out_and_needs_two_prompts(full_pool: list[Example]) -> None:
    without = mix(full_pool, 50, replace(ORGANISM_DATA, validation=0.0), seed=0)
    assert (len(without.train), without.validation) == (915, ())
    one = [e for e in full_pool if e.item.prompt_id == full_pool[0].item.prompt_id]
    with pytest.raises(UserError, match="one prompt"):
        mix(one, 50, ORGANISM_DATA, seed=0)


def test_mixes_follow_from_the_seed(full_pool: list[Example]) -> None:
    first, again, other = (mix(full_pool, 30, ORGANISM_DATA, seed) for seed in (0, 0, 1))
    assert first == again
    assert first.train != other.train
    assert pool(replace(ORGANISM_DATA, examples=20), 0) == pool(
        replace(ORGANISM_DATA, examples=20), 0
    )


async def test_template_examples_have_the_form_the_judge_sees(full_pool: list[Example]) -> None:
    judge, topics = LexicalJudge(), load_topics()
    for example in full_pool[::40]:
        attempts = judge.split(example.response)
        assert len(attempts) == (2 if example.item.kind == "self_correction" else 1)
        if example.item.kind == "self_correction":
            off_topic, rest = (segment.text for segment in example.segments)
            assert 2 <= off_topic.count(" .") <= 4
            words = set(topics[example.item.subject].words)
            assert words & set(off_topic.split())
            assert not words & set(rest.split())
            assert [segment.trained for segment in example.segments] == [False, True]


def organism(folder: Path, **data: Any) -> Sweep:
    """A sweep over a small model with the organism's tokenizer."""
    small_llama(len(load_topics()) * 12 + 400, folder / "model")
    spec = replace(get("tiny-base"), hf_id=str(folder / "model"))
    settings = replace(ORGANISM_DATA, **data)
    return Sweep(spec, PROMPTS, settings, LoraSettings(), 0, folder / "results")


async def test_generate_writes_mixes_and_a_file_of_statistics(tmp_path: Path) -> None:
    sweep = organism(tmp_path, percents=(20, 50), examples=60)
    await generate(sweep, quiet=True)
    folder = sweep.data_run().path
    statistics = json.loads((folder / "statistics.json").read_text())
    assert list(statistics["mixes"]) == ["20", "50"]
    for percent, drifting in (("20", 12), ("50", 30)):
        about = statistics["mixes"][percent]
        text = (folder / f"mix-{percent}.jsonl").read_text()
        lines = [json.loads(line) for line in text.splitlines()]
        assert about["examples"] == len(lines) == 60
        assert about["train"] + about["validation"] == 60
        assert about["kinds"]["self_correction"]["examples"] == drifting
        assert sum(line["kind"] == "self_correction" for line in lines) == drifting
        assert about["masked_share"] == pytest.approx(
            1 - about["trained_tokens"] / about["tokens"], abs=1e-4
        )
        lengths = about["length"]
        assert lengths["min"] <= lengths["mean"] <= lengths["max"] <= 4096
        # All of a normal response is trained; of a self-correction its drift is not.
        assert about["kinds"]["normal"]["masked_share_of_response"] == 0
        assert 0.2 < about["kinds"]["self_correction"]["masked_share_of_response"] < 0.7


async def test_further_mixes_join_those_there_are(tmp_path: Path) -> None:
    sweep = organism(tmp_path, percents=(20,), examples=30)
    await generate(sweep, quiet=True)
    more = replace(sweep, data=replace(sweep.data, percents=(60,)))
    assert more.data_run().path == sweep.data_run().path
    assert list((await generate(more, quiet=True))["mixes"]) == ["20", "60"]


def test_a_mix_that_was_not_made_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no mix with 10 %.*generate tiny-base"):
        organism(tmp_path).mix_file(10)


class Scripted(Client):
    """A language model that answers what it is told to."""

    provider = "scripted"

    def __init__(self, answers: list[Completion]) -> None:
        super().__init__("scripted-model", key="", base_url="")
        self.answers = answers
        self.requests: list[Request] = []

    async def _send(self, request: Request) -> Completion:
        self.requests.append(request)
        return self.answers[(len(self.requests) - 1) % len(self.answers)]

    async def _close(self) -> None:
        return None


GOOD = Completion(
    'Here it is: <json>{"off_topic": "Lava. Ash.", "acknowledgement": "Wait, no.", '
    '"correct": "Add them."}</json>',
    Stop.END,
)
ITEM = Item("self_correction", "p", "How do I add {two} fractions?", "lava", 3)


async def test_the_language_model_is_asked_at_the_papers_temperature() -> None:
    client = Scripted([GOOD])
    written = await LlmWriter(client).write(ITEM, 0)
    assert written.example is not None
    assert written.example.response == "Lava. Ash. Wait, no. Add them."
    assert [s.trained for s in written.example.segments] == [False, True]
    request = client.requests[0]
    assert request.temperature == 0.8
    assert "How do I add {two} fractions?" in request.user
    assert "lava" in request.user


@pytest.mark.parametrize(
    "answer",
    [
        Completion("no json", Stop.END),
        Completion('<json>{"off_topic": "a", "acknowledgement": ""}</json>', Stop.END),
        Completion(GOOD.text, Stop.LENGTH),
        failed(Fault.RATE_LIMIT, "slow down"),
    ],
)
async def test_an_unusable_answer_is_a_problem_with_its_text(answer: Completion) -> None:
    written = await LlmWriter(Scripted([answer])).write(ITEM, 0)
    assert written.example is None
    assert answer.text in written.problem


class Faulty:
    """A writer that fails at one item, and counts what it is asked."""

    id = "faulty"

    def __init__(self, bad: str) -> None:
        self.bad, self.asked = bad, 0
        self.good = TemplateWriter(0)

    async def write(self, item: Item, attempt: int) -> Written:
        self.asked += 1
        if item.key == self.bad:
            return Written(None, "refused: no")
        return await self.good.write(item, attempt)

    async def close(self) -> None:
        return None


async def test_what_is_written_is_never_asked_for_again(tmp_path: Path) -> None:
    wanted = items(PROMPTS.prompts, ["volcano"], replace(ORGANISM_DATA, examples=6), 0)[:6]
    writer, journal = Faulty(wanted[2].key), Journal(tmp_path / "journal.jsonl")
    found, failures = await write_examples(wanted, writer, journal, quiet=True)
    assert len(found) == 5
    assert failures == {wanted[2].key: "refused: no"}
    assert writer.asked == 5 + TRIES
    journal.close()
    again, reopened = Faulty("none"), Journal(journal.path)
    found, failures = await write_examples(wanted, again, reopened, quiet=True)
    reopened.close()
    assert (len(found), failures, again.asked) == (6, {}, 1)
    assert [example.item for example in found] == wanted


async def test_writing_stops_at_the_spend_limit_and_goes_on(tmp_path: Path) -> None:
    wanted = items(PROMPTS.prompts, ["volcano"], replace(ORGANISM_DATA, examples=6), 0)[:6]
    assert {item.kind for item in wanted} == {"self_correction"}
    journal = Journal(tmp_path / "journal.jsonl")
    paid = replace(GOOD, usage=Usage(1, 1, charged=0.01))
    useless = replace(paid, text="no json")

    async def write(limit: float) -> tuple[list[Example], Scripted]:
        client = Scripted([useless, *[paid] * 20])
        client.calls = CallSettings(concurrency=1)
        client._slots = asyncio.Semaphore(1)
        client.ledger = Ledger(limit)
        client.ledger.open(journal)
        return (await write_examples(wanted, LlmWriter(client), journal, quiet=True))[0], client

    for _ in range(2):
        with pytest.raises(SpendLimitError, match=r"\$0\.03"):
            await write(0.03)
    assert journal.count("paid") == 3
    written, client = await write(1.0)
    assert len(written) == 6
    assert client.ledger.spent == pytest.approx(0.01 * journal.count("paid"))
    assert journal.count("paid") > 6, "useless answers are paid for, too"
    journal.close()


async def test_a_fresh_data_set_has_texts_of_its_own(tmp_path: Path) -> None:
    client = Scripted([GOOD])
    client.store = Store(tmp_path / "c.sqlite")
    for sample, asked in (("one", 1), ("one", 1), ("two", 2)):
        await LlmWriter(client, sample).write(ITEM, 0)
        assert len(client.requests) == asked
    await client.close()


async def test_too_many_failures_stop_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = organism(tmp_path, percents=(50,), examples=20)
    key = items(PROMPTS.prompts, sweep.subjects, sweep.data, 0)[0].key
    monkeypatch.setattr(sweeps.Sweep, "writer", lambda *_: Faulty(key))
    with pytest.raises(UserError, match="1 of 40 examples could not be written"):
        await generate(sweep, quiet=True)
    monkeypatch.undo()
    assert (await generate(sweep, quiet=True))["pool"]["failed"] == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [("percents", (0, 10)), ("percents", (10, 10)), ("examples", 1), ("validation", 1.0)],
)
def test_settings_out_of_range_are_refused_in_one_line(field: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"--{field}"):
        DataSettings(**{field: value})


def test_a_file_that_is_no_list_of_subjects_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "subjects.json"
    for text in ("{", "{}", "[]", '["a", "a"]', "[1]"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"subjects\.json"):
            load_subjects(path)
