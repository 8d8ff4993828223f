"""Which runs a figure shows: the newest complete ones, a named one, a file of the authors."""

from __future__ import annotations

from pathlib import Path

import pytest

from esr.analysis import metrics
from esr.errors import UserError
from plotting.selection import find_sources
from plotting.sources import differing_settings
from tests.plotting.made_up_sources import (
    FOUR,
    drawn,
    write_results,
    write_run,
)
from tests.plotting.printed import texts


class TestSources:
    def test_newest_complete_run_of_each_model(self, tmp_path: Path) -> None:
        write_run(tmp_path, "tiny", "a", "2026-01-01")
        newest = write_run(tmp_path, "tiny", "b", "2026-01-03")
        write_run(tmp_path, "tiny", "c", "2026-01-05", status="interrupted")
        other = write_run(tmp_path, "8b", "d", "2026-01-02")
        found = find_sources("experiment_01_esr", [tmp_path])
        assert [s.path for s in found] == [other, newest]
        assert found[1].title == "The model"
        assert found[1].organism
        assert found[1].seed == 7

    def test_a_named_run_that_is_not_complete_says_so(self, tmp_path: Path) -> None:
        run = write_run(tmp_path, "tiny", "a", "2026-01-01", status="interrupted")
        found = find_sources("experiment_01_esr", [run])
        assert "The model (interrupted)" in texts(drawn(found).figure)

    def test_a_file_of_the_authors(self, tmp_path: Path) -> None:
        config = {
            "model_name": "meta-llama/Llama-3.3-70B-Instruct",
            "judge_model_name": "claude-haiku-4-5-20251001",
        }
        write_results(tmp_path / "theirs.json", config, FOUR[0].outcomes)
        (found,) = find_sources("experiment_01_esr", [tmp_path / "theirs.json"])
        assert (found.title, found.model, found.organism) == ("Llama-3.3-70B", "70b", False)
        assert found.settings["judge_id"] == "claude-haiku-4-5-20251001"
        assert metrics.tally(found.outcomes).failed == 1
        assert metrics.esr_rate(found.outcomes) == metrics.esr_rate(FOUR[0].outcomes)

    def test_equal_settings_need_no_note(self) -> None:
        assert differing_settings([FOUR[0], FOUR[1]]) == ""

    def test_no_such_path(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no such results"):
            find_sources("experiment_01_esr", [tmp_path / "nothing"])
