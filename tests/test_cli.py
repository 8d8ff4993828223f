"""Command lines: help, dry run and errors need no GPU, no key and no download."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esr import models
from esr.engine import cluster
from esr.errors import UserError
from esr.models import prompts
from esr.pipeline.experiment import main
from esr.runs import provenance
from esr.runs.commands import parse
from experiment_01_esr.config import Config
from experiment_01_esr.run import EXPERIMENT


@pytest.fixture(autouse=True)
def _no_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESR_ENV_FILE", str(tmp_path / "no.env"))
    for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("key", models.REGISTRY)
def test_dry_run_of_every_model(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, [key, "--dry-run"]) == (0 if key.startswith("tiny") else 2)
    out = capsys.readouterr().out
    assert models.get(key).title in out
    assert "judge calls" in out


def test_dry_run_prints_the_counts_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    main(EXPERIMENT, ["70b", "--dry-run"])
    out = capsys.readouterr().out
    # 1,000 latents, 10 rounds of 5, then 5 trials each (A.1.4).
    assert "50,000" in out
    assert "5,000" in out
    assert "claude-haiku-4-5-20251001" in out


def test_as_published_is_the_run_of_the_options_it_stands_for() -> None:
    typed = ["70b", "--profile", "release", "--prompts", "upstream", "--rubric", "upstream"]
    short = parse(Config, "x", ["70b", "--as-published"])
    assert short.identity() == parse(Config, "x", typed).identity()
    assert (short.profile, short.prompts, short.rubric) == ("release", "upstream", "upstream")
    assert short.latent_filter == "release"
    assert short.identity() != parse(Config, "x", ["70b"]).identity()


def test_as_published_with_another_choice_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(EXPERIMENT, ["70b", "--as-published", "--prompts", "held-out", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert "--as-published with --prompts held-out; allowed: --prompts upstream" in error
    assert main(EXPERIMENT, ["tiny", "--as-published", "--dry-run"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["71b"], "error: unknown model '71b'; allowed: 70b, 8b"),
        (["tiny", "--engine", "tgi"], "error: unknown value of --engine: 'tgi'; allowed: vllm"),
        (["tiny", "--n-latents", "0"], "error: --n-latents 0; allowed: 1 or more"),
        (["tiny", "--n-latents", "many"], "error: --n-latents 'many'; allowed: a whole number"),
        (["tiny", "--prompts", "nope"], "error: no prompt set 'nope'"),
        (["tiny", "--judge", "judy"], "error: unknown judge 'judy'"),
        (["tiny", "--output", "/proc/nowhere"], "error: cannot write to /proc/nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    where = [] if "--output" in arguments else ["--output", str(tmp_path)]
    assert main(EXPERIMENT, [*arguments, *where]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert captured.err.count("\n") == 1
    assert "next: " in captured.err


def test_identity_is_what_can_change_a_result() -> None:
    same = Config(model="tiny", in_flight=3, output="elsewhere", max_spend=2.0)
    assert same.identity() == Config(model="tiny").identity()
    for change in ({"seed": 1}, {"pairing": "scheduler-order"}, {"prompts": "held-out"}):
        assert Config(model="tiny", **change).identity() != Config(model="tiny").identity()


def test_pairing_is_right_by_default_and_stamped() -> None:
    assert Config().pairing == "request-id"
    assert Config(pairing="scheduler-order").identity()["pairing"] == "scheduler-order"


def test_registry_agrees_with_table_1() -> None:
    table = {
        "70b": (33, 50, 65536, 10, 5),
        "8b": (19, 19, 65536, 10, 1),
        "gemma-2b": (16, 16, 16384, 10, 1),
        "gemma-9b": (26, 26, 16384, 10, 1),
        "gemma-27b": (22, 22, 131072, 10, 1),
    }
    for key, expected in table.items():
        spec = models.get(key)
        assert (
            spec.steering_layer,
            spec.feature_layer,
            spec.d_sae,
            spec.calibration.rounds,
            spec.calibration.prompts_per_round,
        ) == expected
    assert models.get("8b").profile("release").steering_layer == 12
    with pytest.raises(UserError, match="unknown profile 'x' for model 8b; allowed: paper"):
        models.get("8b").profile("x")


class TestPrompts:
    def test_sets_of_the_house(self) -> None:
        assert len(prompts.load("how-to").prompts) == 38
        assert len(prompts.load("held-out").prompts) == 20
        discovery = prompts.load("discovery")
        assert (discovery.name, len(discovery.prompts)) == ("how-to-discovery", 38)
        others = [*prompts.load("how-to").prompts, *prompts.load("held-out").prompts]
        assert not {p.id for p in others} & {p.id for p in discovery.prompts}
        assert not {p.text for p in others} & {p.text for p in discovery.prompts}
        assert {m.id for m in prompts.load("how-to").meta_prompts} == {
            "dont_get_distracted",
            "ignore_latent_label",
            "self_monitor",
            "resist_manipulation",
        }

    def test_a_users_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.txt"
        path.write_text("How do I swim?\n\nWhat is tea?\n")
        found = prompts.load(str(path))
        assert [p.text for p in found.prompts] == ["How do I swim?", "What is tea?"]
        path.write_text("\n")
        with pytest.raises(UserError, match="has no questions"):
            prompts.load(str(path))

    def test_a_broken_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({"name": "mine", "prompts": ["How?"]}))
        with pytest.raises(UserError, match="is not a prompt set"):
            prompts.load(str(path))

    def test_templates(self) -> None:
        own = prompts.load("how-to").meta_prompt("{prompt} Think of {latent_label}, {not me}.")
        assert own.render("How {x}?", "cats") == "How {x}? Think of cats, {not me}."
        with pytest.raises(UserError, match="unknown meta-prompt 'nope'"):
            prompts.load("how-to").meta_prompt("nope")


def test_replicas_auto_is_what_the_gpus_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this machine; Ray does not say how large those of a cluster are."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(provenance, "gpus", lambda: ["NVIDIA H100, 81559 MiB"] * 4)
    of = {key: parse(Config, "x", [key, "--replicas", "auto"]).replicas for key in ("8b", "70b")}
    assert of == {"8b": 4, "70b": 2}
    assert parse(Config, "x", ["8b", "--replicas", "auto", "--tensor-parallel", "2"]).replicas == 2
    assert parse(Config, "x", ["8b"]).replicas == 1
    monkeypatch.setattr(provenance, "gpus", list)
    assert parse(Config, "x", ["tiny", "--replicas", "auto"]).replicas == 1
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(UserError, match="does not know how large its GPUs are; allowed: --tensor"):
        parse(Config, "x", ["8b", "--replicas", "auto"])
    monkeypatch.setattr(cluster, "gpus_by_machine", lambda: [8, 0, 3])
    assert parse(Config, "x", ["8b", "--replicas", "auto", "--tensor-parallel", "2"]).replicas == 5
