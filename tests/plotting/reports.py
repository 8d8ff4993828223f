"""Report pages of made-up runs, and what a browser shows of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plotting import paper_numbers, selection
from plotting.measured import measure
from plotting.published import compare
from plotting.report import page

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver


def make(results: Path, folder: Path) -> Path:
    """The page without figures."""
    runs = selection.find([results])
    rows = compare(measure(runs))
    paper_numbers.write(rows, folder)
    missing = [page.Missing("Nothing", "Figure 0", "no <run>.", "python -m nothing")]
    return page.write(folder, runs, rows, [], missing)


def script_data(file: Path) -> Any:
    """What a script of transcripts passes on."""
    call, _, text = file.read_text().partition("(")
    assert call in ("ESR.add", "ESR.addAnswers")
    return json.loads(f"[{text.removesuffix(');' + chr(10))}]")[1]


def until(told: Callable[[], Any], wanted: Any) -> None:
    """Wait until the page says what is wanted."""
    for _ in range(100):
        if told() == wanted:
            return
        time.sleep(0.05)
    assert told() == wanted


def tally(driver: WebDriver) -> str:
    return str(driver.execute_script("return document.getElementById('tally').textContent"))


def text_of(driver: WebDriver, selector: str) -> str:
    return str(
        driver.execute_script(
            "return document.querySelector(arguments[0])?.textContent ?? ''", selector
        )
    )


def ready(driver: WebDriver, address: str) -> float:
    """Open a page in a fresh document; seconds from the start of navigation to a full list."""
    driver.get("about:blank")
    driver.get(address)
    script = "return document.documentElement.dataset.ready || ''"
    until(lambda: bool(driver.execute_script(script)), True)
    return float(driver.execute_script(script)) / 1000


def choose(driver: WebDriver, name: str, value: str) -> None:
    script = """
    const field = document.getElementById("filters").elements[arguments[0]];
    field.value = arguments[1];
    field.dispatchEvent(new Event("input", { bubbles: true }));
    """
    driver.execute_script(script, name, value)
