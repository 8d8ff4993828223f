"""A bar on a terminal, a line a minute in a log, and what is waited for by its name."""

from __future__ import annotations

import io
import sys

import pytest

from esr.runs import progress


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


def test_a_thousand_steps_in_a_second_are_two_lines_of_a_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress.bar(1000, "calibration", "trial") as bar:
        for _ in range(1000):
            bar.update()
    written = capsys.readouterr().err
    lines = written.splitlines()
    assert "\r" not in written
    assert [line.split(",")[0] for line in lines] == [
        "calibration: 0 of 1000 trials",
        "calibration: 1000 of 1000 trials",
    ]


def test_a_log_gets_a_line_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.tqdm, "monitor_interval", 0)
    with progress.bar(300, "trials", "trial") as bar:
        monkeypatch.setattr(bar, "_time", lambda: now[0])
        bar.start_t = bar.last_print_t = 0.0
        for _ in range(300):
            now[0] += 1.0
            bar.update()
    counts = [line.split(" ")[1] for line in capsys.readouterr().err.splitlines()]
    assert counts == ["0", "60", "120", "180", "240", "300"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.bar(10, "trials", "trial") as bar:
        bar.update(10)
    assert "\r" in terminal.getvalue()
    assert "100%" in terminal.getvalue()


def test_nothing_to_do_and_quiet_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.bar(0, "trials", "trial"), progress.bar(5, "more", "trial", quiet=True) as bar:
        bar.update(5)
        with progress.saying("starting the engine"):
            pass
    assert capsys.readouterr().err == ""


def test_the_engine_is_named_while_it_starts_and_its_time_is_not_the_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    with progress.bar(4, "reading prompts", "trial") as bar:
        monkeypatch.setattr(bar, "_time", lambda: now[0])
        bar.start_t = bar.last_print_t = 0.0
        with progress.saying("starting the engine"):
            now[0] += 100.0
        now[0] += 8.0
        bar.update(4)
    lines = capsys.readouterr().err.splitlines()
    names = [line.partition(":")[0] for line in lines]
    assert names == ["reading prompts", "starting the engine", "reading prompts"]
    assert "00:08 passed" in lines[-1], "the 100 seconds of the engine are not its own"
