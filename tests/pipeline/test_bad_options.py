"""Every option of every command with values that mean nothing: one line, or a plan; no traceback.

The commands run through their own parsers with ``--dry-run``; a value is taken (exit status 0) or
refused in one line that says what is allowed and what to do (exit status 2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from esr import judge, models
from esr.errors import UserError
from esr.models import commands as model_commands
from esr.pipeline.cli import CommonConfig
from esr.pipeline.experiment import main
from esr.upstream import commands as upstream_commands
from experiment_01_esr.run import EXPERIMENT as ESR
from experiment_02_multi_boost.run import EXPERIMENT as SWEEP
from experiment_03_off_topic_detectors import ablate, find
from experiment_03_off_topic_detectors import commands as detectors
from experiment_04_finetuning import stages
from experiment_04_finetuning.config import Config as FineTuning
from experiment_05_prompt_variants.run import EXPERIMENT as VARIANTS
from experiment_06_sequential_activations.run import EXPERIMENT as SEQUENTIAL
from experiment_07_cross_judge import run as cross_judge
from experiment_08_no_steering_baseline.run import EXPERIMENT as NO_STEERING
from experiment_09_activation_stats import commands as activations
from experiment_09_activation_stats.config import Config as Activations
from experiment_10_random_latent_control import commands as control
from experiment_10_random_latent_control.run import EXPERIMENT as CONTROL

Run = Callable[[Sequence[str]], int]

COMMANDS: dict[str, tuple[Run, type[Any]]] = {
    "1": (partial(main, ESR), ESR.config),
    "2": (partial(main, SWEEP), SWEEP.config),
    "3 find": (partial(main, find.EXPERIMENT), find.EXPERIMENT.config),
    "3 ablate": (partial(main, ablate.EXPERIMENT), ablate.EXPERIMENT.config),
    "4": (stages.main, FineTuning),
    "5": (partial(main, VARIANTS), VARIANTS.config),
    "6": (partial(main, SEQUENTIAL), SEQUENTIAL.config),
    "7": (cross_judge.main, cross_judge.Config),
    "8": (partial(main, NO_STEERING), NO_STEERING.config),
    "9": (partial(activations.start, "9"), Activations),
    "10": (partial(main, CONTROL), CONTROL.config),
}

NUMBERS = ("", "x", "-1", "0", "nan", "inf", "-inf", "1e400", "9" * 23, "1.5", "0x10", "٣")

NAMES = ("nosuch", "tinny", "../x", "a/b", "'", "a" * 5000, "é☃", "haiku@", "openai:", ",", "{")

FILES: dict[str, bytes | None] = {
    "missing.json": None,
    "binary.json": bytes(range(256)),
    "latin.txt": b"Caf\xe9?\n",
    "empty.json": b"",
    "empty.txt": b"\n\n",
    "empty.toml": b"",
    "binary.toml": b"\xff\x00",
    "wrong.json": b'{"a": [1, null]}',
    "list.json": b"[1, 2]",
    "numbers.json": b'{"name": 3, "prompts": [{"id": 1, "text": 2}]}',
    "deep.json": b"[" * 100_000,
    "deep.toml": b"a = " + b"[" * 5_000,
    "cut.json": b'{"experiment_config": {"model_name": "',
}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Paths of files that are none of what is wanted, and of a folder in a file's place."""
    for name, content in FILES.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    for name in ("folder.json", "folder.toml", "folder.txt"):
        (tmp_path / name).mkdir()
    forbidden = tmp_path / "forbidden.json"
    forbidden.write_text("{}", encoding="utf-8")
    forbidden.chmod(0)
    return [str(path) for path in (*tmp_path.iterdir(), tmp_path / "missing.json")]


def options(config: type[Any], skip: set[str]) -> Iterator[tuple[str, str]]:
    """Name and type of every option that takes a value; groups of options are looked into."""
    for field in fields(config):
        kind = str(field.type)
        if field.name in skip or field.type is bool or kind == "bool":
            continue
        if isinstance(field.type, type) and hasattr(field.type, "__dataclass_fields__"):
            yield from options(field.type, skip)
        else:
            yield field.name, kind


def cases() -> list[tuple[str, str, str]]:
    shared = {field.name for field in fields(CommonConfig)} - {"model"}
    return [
        (command, name, kind)
        for command, (_, config) in COMMANDS.items()
        for name, kind in options(config, set() if command == "1" else shared)
    ]


def one_line(error: str) -> bool:
    """Whether an error says what was wrong, what is allowed and what to do."""
    return bool(re.fullmatch(r"error: [^\n]*; allowed: [^\n]*; next: [^\n]*\n", error))


@pytest.mark.parametrize(("command", "name", "kind"), cases())
def test_no_value_of_an_option_ends_in_a_traceback(
    command: str,
    name: str,
    kind: str,
    files: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ESR_CACHE", str(tmp_path / "cache"))
    run, _ = COMMANDS[command]
    number = "int" in kind or "float" in kind
    for value in NUMBERS if number else (*NAMES, *files):
        option = "--" + name.replace("_", "-")
        typed = [option, value] if "tuple" in kind else [f"{option}={value}"]
        typed = [value] if name == "model" else ["tiny", *typed]
        where = [] if name == "output" else ["--output", str(tmp_path / "none")]
        status = run([*typed, "--dry-run", *where])
        error = capsys.readouterr().err
        assert status in (0, 2), (typed, error)
        assert status == 0 or one_line(error), (typed, error)
        if number and value in ("", "x", "nan", "inf", "-inf", "1e400"):
            assert status == 2, typed


@pytest.mark.parametrize(
    ("run", "typed", "message"),
    [
        (COMMANDS["1"][0], "tiny --max-spend nan", "--max-spend nan; allowed: 0 or more"),
        (COMMANDS["1"][0], "tiny --max-spend -1", "--max-spend -1; allowed: 0 or more"),
        (COMMANDS["1"][0], "tiny --n-trials 1000", "--n-trials 1000; allowed: 1 to 38"),
        (COMMANDS["1"][0], "tiny --n-latents 99999", "--n-latents 99999; allowed: 1 to 1024"),
        (COMMANDS["1"][0], "tiny --tensor-parallel -1", "--tensor-parallel -1; allowed: 0 or more"),
        (COMMANDS["1"][0], "tiny --tensor-parallel 2", "3 attention heads, .*allowed: 1, 3; next"),
        (COMMANDS["1"][0], "70b --tensor-parallel 3 --dry-run", "allowed: 1, 2, 4, 8, 16, 32, 64"),
        (COMMANDS["1"][0], "tiny --in-flight 1000000", "0; allowed: 1 or more, at most 4,096"),
        (COMMANDS["1"][0], "tiny --rubric upstream", "the judge lexical, which reads none"),
        (COMMANDS["1"][0], "tny", "unknown model 'tny'.*did you mean 'tiny'"),
        (COMMANDS["1"][0], "tiny --seed 1 2", "unknown argument '2'"),
        (COMMANDS["1"][0], "tiny --n-latnts 1", "did you mean '--n-latents'"),
        (COMMANDS["1"][0], "tiny --engine vlm", "allowed: vllm, transformers; .*'vllm'"),
        (COMMANDS["1"][0], "tiny --seed", "--seed: expected one argument; allowed: a value"),
        (COMMANDS["3 find"][0], "tiny --silent -1", "--silent -1; allowed: above 0"),
        (COMMANDS["6"][0], "tiny --latents 99999", "--latents 99999; allowed: 0 to 1023"),
        (COMMANDS["9"][0], "tiny --backtracking-latents 1024", "1024; allowed: 0 to 1023"),
        (COMMANDS["9"][0], "nosuch", "unknown step or model 'nosuch'; allowed: all, find-back"),
        (COMMANDS["9"][0], "analyse tiny", "did you mean 'analyze'"),
        (detectors.main, "nosuch tiny", "unknown step or model 'nosuch'; allowed: find, ablate"),
        (stages.main, "tiny-base generate", "step 'generate' stands after 'tiny-base'.*next: .*"),
        (partial(control.start, "10"), "analize tiny", "did you mean 'analyze'"),
        (partial(model_commands.main, judge.resolve), "list x", "unknown argument 'x'"),
        (partial(model_commands.main, judge.resolve), "check", "required: FILE.toml"),
        (upstream_commands.main, "labels tiy --dry-run", "unknown model 'tiy'"),
    ],
)
def test_what_was_typed_wrong_is_named(
    run: Run, typed: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    planned = "tiny" in typed and "tiy" not in typed
    where = ["--dry-run", "--output", str(tmp_path)] if planned else []
    assert run([*typed.split(), *where]) == 2
    error = capsys.readouterr().err
    assert one_line(error), error
    assert re.search(message, error), error


def test_a_results_folder_below_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(ESR, ["tiny", "--dry-run", "--output", str(tmp_path / "file" / "results")]) == 2
    assert f"{tmp_path / 'file'} is a file; allowed: a folder" in capsys.readouterr().err


def test_a_judge_is_not_compared_with_itself() -> None:
    config = cross_judge.Config(model="tiny", judges="lexical")
    with pytest.raises(UserError, match=r"graded the run itself; allowed: other judges.*overlap"):
        cross_judge.judges_of(config, models.get("tiny"), "lexical")
    assert cross_judge.judges_of(config, models.get("tiny"), "overlap") == ["lexical"]
