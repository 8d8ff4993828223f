"""Which runs a figure shows: default settings, or named; damage costs one line and one run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esr.errors import UserError
from plotting import plot_all, plot_exp1
from plotting.measured import measure
from plotting.selection import find, find_sources
from plotting.sources import load_source
from tests.made_up_runs import arm_of_trials, write_run

EXPERIMENT = "experiment_01_esr"


def run(root: Path, name: str, started: str = "2026-01-01", **options: Any) -> Path:
    """A complete run; options are what a command line gave."""
    facts = {"started": started, "identity": options}
    model = {"model": options.pop("model")} if "model" in options else {}
    trials = arm_of_trials("steered", 1, 4)
    return write_run(root, EXPERIMENT, name, trials, facts=facts, config={**model, **options})


def shown(root: Path, **chosen: Any) -> list[str]:
    return [source.path.name for source in find_sources(EXPERIMENT, [root], **chosen)]


class TestDefaults:
    @pytest.mark.parametrize(
        "options",
        [
            {"pairing": "scheduler-order"},
            {"profile": "release"},
            {"prompts": "held-out"},
            {"latent_filter": "paper"},
            {"judge": "overlap"},
            {"rubric": "upstream"},
            {"n_latents": 2},
            {"n_trials": 1},
        ],
    )
    def test_a_newer_run_with_other_settings_is_told_and_not_shown(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
    ) -> None:
        run(tmp_path, "default")
        other = run(tmp_path, "other", "2026-02-01", **options)
        assert shown(tmp_path) == ["default"]
        (name, value) = next(iter(options.items()))
        option = f"--{name.replace('_', '-')} {value}"
        lines = capsys.readouterr().err.splitlines()
        line = f"warning: {other} is not shown, for it has {option}; --run {other} shows it"
        assert lines == [line]
        assert {m.run for m in measure(find([tmp_path]))} == {"1-tiny-default"}

    def test_it_is_shown_where_it_is_named_in_place_of_the_other(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(tmp_path, "default", "2026-03-01")
        other = run(tmp_path, "other", "2026-02-01", n_latents=2)
        assert shown(tmp_path, runs=[other]) == ["other"]
        assert capsys.readouterr().err == ""
        assert {m.run for m in measure(find([tmp_path], runs=[other]))} == {"1-tiny-other"}

    def test_an_older_one_is_not_worth_a_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(tmp_path, "default", "2026-03-01")
        run(tmp_path, "other", "2026-02-01", n_latents=2)
        assert shown(tmp_path) == ["default"]
        assert capsys.readouterr().err == ""

    def test_where_there_is_no_other_nothing_is_shown(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = run(tmp_path / "r", "other", n_latents=2)
        arguments = ["--results", str(tmp_path / "r"), "--output", str(tmp_path / "out")]
        assert plot_exp1.main(arguments) == 1
        error = capsys.readouterr().err
        assert f"--run {other} shows it" in error
        assert f"no complete run of {EXPERIMENT} with the default settings" in error
        assert plot_exp1.main([*arguments, "--run", str(other)]) == 0

    def test_what_equals_the_models_own_default_is_the_default(self, tmp_path: Path) -> None:
        run(tmp_path, "a", model="70b", n_latents=1000, n_trials=5, judge="haiku")
        assert shown(tmp_path) == ["a"]

    def test_a_judge_that_is_asked_for_need_not_be_the_default(self, tmp_path: Path) -> None:
        run(tmp_path, "default")
        run(tmp_path, "other", "2026-02-01", judge="overlap", judge_id="x-overlap-1")
        assert shown(tmp_path, judge="overlap") == ["other"]
        assert [s.stands for s in find([tmp_path], judge="overlap")] == [True]

    def test_seed_and_engine_do_not_decide(self, tmp_path: Path) -> None:
        run(tmp_path, "default")
        run(tmp_path, "other", "2026-02-01", seed=7, engine="transformers")
        assert shown(tmp_path) == ["other"]

    def test_only_one_model(self, tmp_path: Path) -> None:
        run(tmp_path, "small")
        run(tmp_path, "large", model="70b")
        assert shown(tmp_path) == ["large", "small"]
        assert shown(tmp_path, model="70b") == ["large"]
        with pytest.raises(UserError, match=r"unknown model 'tinny'.*allowed: 70b, 8b"):
            find([tmp_path], model="tinny")
        with pytest.raises(UserError, match=r"unknown model 'tinny'.*did you mean 'tiny'"):
            shown(tmp_path, model="tinny")


def empty(file: Path) -> None:
    file.write_text("")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def of_another_type(file: Path) -> None:
    file.write_text("[1, 2]")


def binary(file: Path) -> None:
    file.write_bytes(b"\xff\x00" * 50)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def null(*names: str | int) -> Callable[[Path], None]:
    """A value inside is null."""

    def damage(file: Path) -> None:
        data = json.loads(file.read_text())
        part: Any = data
        for name in names[:-1]:
            part = part[name]
        part[names[-1]] = None
        file.write_text(json.dumps(data))

    return damage


WHOLE = (empty, cut, of_another_type, binary)
RUN = (
    *WHOLE,
    null("schema_version"),
    null("started"),
    null("status"),
    null("model"),
    null("identity"),
    null("config"),
)
RESULTS = (
    *WHOLE,
    folder,
    null("results_by_feature"),
    null("results_by_feature", 0),
    null("results_by_feature", 0, "feature_index_in_sae"),
    null("results_by_feature", 1, "trials", 0),
    null("results_by_feature", 1, "trials", 0, "score", "attempts", 0),
)
DAMAGES = [("run.json", d) for d in RUN] + [("results.json", d) for d in RESULTS]


class TestDamage:
    @pytest.mark.parametrize(("name", "damage"), DAMAGES)
    def test_it_costs_one_line_and_one_run(
        self,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        name: str,
        damage: Callable[[Path], None],
    ) -> None:
        run(tmp_path, "sound")
        damage(run(tmp_path, "damaged", "2026-02-01") / name)
        assert shown(tmp_path) == ["sound"]
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("warning: ")
        assert line.endswith(": left out")
        assert "damaged" in line
        assert [source.path.name for source in find([tmp_path])] == ["sound"]
        # Said once, however many figures are drawn.
        assert capsys.readouterr().err == ""

    def test_a_copy_is_no_second_run(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        original = run(tmp_path, "aaaa")
        shutil.copytree(original, original.with_name("aaaa-backup"))
        assert shown(tmp_path) == ["aaaa"]
        assert "aaaa-backup is a copy of run aaaa" in capsys.readouterr().err
        assert [source.path.name for source in find([tmp_path])] == ["aaaa"]

    def test_what_is_named_and_cannot_be_read_is_an_error(self, tmp_path: Path) -> None:
        damaged = run(tmp_path, "damaged")
        cut(damaged / "results.json")
        for choose in ({"where": [damaged]}, {"where": [tmp_path], "runs": [damaged]}):
            with pytest.raises(UserError, match="not a results file"):
                find_sources(EXPERIMENT, **choose)  # type: ignore[arg-type]

    def test_a_run_without_results_cannot_be_drawn(self, tmp_path: Path) -> None:
        unfinished = run(tmp_path, "unfinished")
        (unfinished / "results.json").unlink()
        assert shown(tmp_path) == []
        with pytest.raises(UserError, match="has no results"):
            find_sources(EXPERIMENT, [unfinished])
        assert find([tmp_path])[0].arms == {}

    def test_numbers_of_the_other_runs_remain(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run(tmp_path, "sound")
        package = "experiment_03_off_topic_detectors"
        extra = {"arms": {"ablation": {"summary": None}}, "baseline": {"esr_rate": 3}}
        write_run(tmp_path, package, "odd", arm_of_trials("ablation", 2, 4), extra=extra)
        assert {m.run for m in measure(find([tmp_path]))} == {"1-tiny-sound", "3-tiny-odd"}
        (line,) = capsys.readouterr().err.splitlines()
        assert "odd cannot be used" in line

    def test_figures_and_page_of_the_other_runs_remain(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(plot_all, "SCRIPTS", plot_all.SCRIPTS[:3])
        root = tmp_path / "r"
        run(root, "sound")
        sweep = "experiment_02_multi_boost"
        write_run(root, sweep, "odd", arm_of_trials("boost-1", 2, 4), extra={"levels": None})
        cut(run(root, "half", model="8b") / "run.json")
        arguments = ["--results", str(root), "--output", str(tmp_path / "out")]
        assert plot_all.main(arguments) == 0
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if "left out" in line]
        assert len(lines) == 2
        assert "half" in lines[0]
        assert "odd" in lines[1]
        assert "Figure 3, Boost-level sweep: no complete run." in captured.out
        page = (tmp_path / "out" / "index.html").read_text()
        assert page.count(": left out</li>") == 2


def test_a_results_file_in_a_run_folder_is_that_run(tmp_path: Path) -> None:
    folder_of_run = run(tmp_path, "a", "2026-02-01")
    source = load_source(folder_of_run / "results.json")
    assert (source.path, source.started) == (folder_of_run, "2026-02-01")
