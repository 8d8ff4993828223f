"""``--help`` answers at once, in the reader's words, for every command of the house."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields

import pytest

from esr import judge
from esr.models import commands
from esr.pipeline.cli import HELP_GROUPS, CommonConfig, ReplayConfig
from esr.runs.paths import REPOSITORY

HEAVY = ("torch", "scipy", "transformers", "vllm", "pandas", "matplotlib", "statsmodels")

COMMANDS = (
    "experiment_01_esr",
    "experiment_02_multi_boost",
    "experiment_03_off_topic_detectors find",
    "experiment_03_off_topic_detectors ablate",
    "experiment_04_finetuning evaluate",
    "experiment_05_prompt_variants",
    "experiment_06_sequential_activations",
    "experiment_07_cross_judge",
    "experiment_08_no_steering_baseline",
    "experiment_09_activation_stats analyze",
    "experiment_10_random_latent_control run-random",
    "experiment_11_resistance_controls",
    "experiment_12_steering_operators compare",
    "experiment_12_steering_operators defend",
    "experiment_13_pairing_fault",
)
STEPS = (
    "experiment_03_off_topic_detectors",
    "experiment_04_finetuning",
    "experiment_09_activation_stats",
    "experiment_10_random_latent_control",
    "experiment_12_steering_operators",
    "esr.models",
    "esr.runs",
    "esr.upstream",
    "esr.organism",
    "esr.export",
    "esr.directions",
)

RUN = """
import json, resource, runpy, sys
module, *sys.argv[1:] = sys.argv[1:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    heavy = [name for name in {heavy} if name in sys.modules]
    json.dump([end.code, usage.ru_utime + usage.ru_stime, heavy], sys.stderr)
"""


def run(arguments: str) -> tuple[str, int, float, list[str]]:
    """(what was printed, exit status, seconds of processor time, heavy modules loaded)."""
    code = RUN.replace("{heavy}", repr(HEAVY))
    answer = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    )
    status, seconds, heavy = json.loads(answer.stderr.splitlines()[-1])
    return answer.stdout, status, seconds, heavy


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_experiment(command: str) -> None:
    out, status, seconds, heavy = run(f"{command} --help")
    assert status == 0
    assert heavy == []
    # 0.6 s on an idle machine; the bound leaves room for a busy one.
    assert seconds < 1.8
    assert out.startswith(f"usage: python -m {command} [MODEL] [options]\n")
    for leftover in ("Config ['", "(default: None)", "(default: )", "(default: False)", "[N]"):
        assert leftover not in out
    first, *_ = out.split("\nwhat to run:\n")
    for option in ("  MODEL ", "  --n-latents N ", "  --n-trials N ", "  --dry-run "):
        assert option in first
    titles = [title for title in HELP_GROUPS if title]
    assert [out.index(f"\n{title}:\n") for title in titles] == sorted(
        out.index(f"\n{title}:\n") for title in titles
    )


@pytest.mark.parametrize("command", STEPS)
def test_help_of_commands_with_steps(command: str) -> None:
    out, status, seconds, heavy = run(f"{command} --help")
    assert (status, heavy) == (0, [])
    assert seconds < 1.8
    assert out.startswith(f"usage: python -m {command} ")
    assert "lists the options of a step" in out


def test_listing_models_and_a_dry_run_are_quick() -> None:
    for command, end in (("esr.models list", 0), ("experiment_01_esr 70b --dry-run", 2)):
        out, status, seconds, heavy = run(command)
        assert (status, heavy) == (end, [])
        assert seconds < 1.8
        assert "Llama-3.3-70B" in out


def test_every_shared_option_has_its_group() -> None:
    grouped = [name for names in HELP_GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(
        {f.name for f in (*fields(CommonConfig), *fields(ReplayConfig))}
    )


def test_a_step_must_be_named_where_there_is_no_default(capfd: pytest.CaptureFixture[str]) -> None:

    assert commands.main(judge.resolve, []) == 2
    assert commands.main(judge.resolve, ["chek"]) == 2
    assert capfd.readouterr().err.splitlines() == [
        "error: no step is named; allowed: list, check, suggest-prior; "
        "next: python -m esr.models --help",
        "error: unknown step 'chek'; allowed: list, check, suggest-prior; "
        "next: did you mean 'check'?",
    ]
