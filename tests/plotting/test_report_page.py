"""The report page: attempts in place, text never markup, and the browser of transcripts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from esr.analysis.episodes import Episode
from esr.errors import UserError
from esr.judge.lexical import restart_spans
from esr.judge.spans import attempt_spans
from plotting import paper_numbers, selection
from plotting.measured import measure
from plotting.published import compare
from plotting.report import example, page, transcripts
from plotting.report.transcripts import utf16
from plotting.sources import load_source
from tests.browser import chromium, needs_browser
from tests.made_up_runs import HOSTILE, OFF, ON, RESTART, a_family, arm_of_trials, write_run

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

MOST_SECONDS = 2.0
"""In which 5,000 trials must open."""


class TestAttempts:
    def test_positions_count_as_in_javascript(self) -> None:
        text = "a\U0001f30bb"
        assert list(utf16(text, [(0, 3), (2, 3), None])) == [(0, 4), (3, 4), None]
        assert list(utf16("äb", [(1, 2)])) == [(1, 2)]

    def test_restart_phrases(self) -> None:
        text = f"{OFF}{RESTART}{ON}"
        found = [text[a:b] for a, b in restart_spans(text)]
        assert found == ["Wait, that's not right", "Let me start over"]
        assert restart_spans(ON) == []

    def test_stretches_hold_the_whole_response(self) -> None:
        text = f"Well. {OFF}{RESTART}{ON}The end."
        quotes = [OFF.strip(), f"{RESTART}{ON}".strip(), "said by nobody"]
        spans = tuple(attempt_spans(text, quotes))
        scores = (0.0, 75.5, 50.0)
        blocks = example.blocks(Episode("t", 1, "", 1.0, "", text, tuple(quotes), scores, spans))
        assert [b["name"] for b in blocks] == ["between", "a1", "a2", "a3", "between"]
        assert blocks[2]["title"] == "Attempt 2, score 75.5"
        own = [b for b in blocks if b["name"] != "a3"]
        told = "".join(part for block in own for part, _ in block["parts"])
        assert re.sub(r"\s", "", told) == re.sub(r"\s", "", text)
        assert [p for p, marked in blocks[2]["parts"] if marked] == [
            "Wait, that's not right",
            "Let me start over",
        ]


def make(results: Path, folder: Path) -> Path:
    """The page without figures."""
    runs = selection.find([results])
    rows = compare(measure(runs))
    paper_numbers.write(rows, folder)
    missing = [page.Missing("Nothing", "Figure 0", "no <run>.", "python -m nothing")]
    return page.write(folder, runs, rows, [], missing)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    a_family(root / "results")
    return make(root / "results", root / "out")


class TestFolder:
    def test_text_of_responses_is_never_markup(self, report: Path) -> None:
        text = report.read_text()
        assert "&lt;/script&gt;&lt;img src=x" in text
        assert "<img src=x" not in text
        assert "<b>volcanoes" not in text
        assert "no &lt;run&gt;." in text
        for script in report.parent.glob("*/*.js"):
            assert script.read_bytes().isascii() or script.parent.name == "assets"

    def test_nothing_is_loaded_from_elsewhere(self, report: Path) -> None:
        folder = report.parent
        used = re.findall(r'(?:src|href)="([^"#]+)"', report.read_text())
        assert len(used) > 10
        for name in used:
            assert name == "data:," or (folder / name).is_file(), name
        for file in folder.rglob("*.*s"):
            assert not re.search(r"https?://", file.read_text()), file

    def test_says_it_is_an_organism_in_every_part(self, report: Path) -> None:
        parts = re.split(r"<section ", report.read_text())[1:]
        assert [re.findall('id="([a-z]+)"', p)[0] for p in parts] == [
            *("overview", "figures", "numbers", "runs", "transcripts")
        ]
        assert all("not evidence about large models" in part for part in parts)

    def test_transcripts_hold_every_trial(self, report: Path, tmp_path: Path) -> None:
        a_family(tmp_path)
        (run,) = [r for r in selection.find([tmp_path]) if r.experiment == 1]
        script = (report.parent / "transcripts" / f"{run.key}.js").read_text()
        assert script.startswith(f'ESR.store.add("{run.key}",')
        data = json.loads(script[len(f'ESR.store.add("{run.key}",') : -3])
        recorded = [t for f in run.data["results_by_feature"] for t in f["trials"]]
        assert len(data["trials"]) == len(recorded) == 200
        place = {name: k for k, name in enumerate(data["fields"])}
        for row, trial in zip(data["trials"], recorded, strict=True):
            assert row[place["response"]] == trial["response"]
            assert row[place["id"]] == trial["trial_id"]
            assert data["prompts"][row[place["prompt"]]] == trial["prompt"]
            assert row[place["status"]] == trial["score"]["status"]
            units = trial["response"].encode("utf-16-le")
            quoted = trial["score"]["attempts"]
            for (score, start, end), attempt in zip(row[place["attempts"]], quoted, strict=True):
                assert score == attempt["score"]
                told = units[2 * start : 2 * end].decode("utf-16-le")
                assert told == attempt["attempt_text"].strip()

    def test_unjudged_responses_and_runs_without_results(self, tmp_path: Path) -> None:
        trials = arm_of_trials("unsteered", 1, 4)
        for trial in trials:
            trial["spec"] = {"judged": False}
        package = "experiment_03_off_topic_detectors"
        write_run(tmp_path / "results", package, "a", trials)
        folder = write_run(tmp_path / "results", package, "b", [], facts={"status": "failed"})
        (folder / "results.json").unlink()
        text = make(tmp_path / "results", tmp_path / "out").read_text()
        assert "No trials yet." in text
        assert 'class="status-failed">failed' in text
        assert not list((tmp_path / "out").glob("transcripts/*"))

    def test_unwritable_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="cannot write"):
            page.write(tmp_path / "file" / "x", [], [], [], [])

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "results").mkdir()
        text = make(tmp_path / "results", tmp_path / "out").read_text()
        assert "python -m experiment_01_esr tiny" in text
        assert "No runs found." in text
        assert "organism" not in re.sub(r"experiment_\S+ tiny", "", text)

    def test_rates_of_the_page_are_those_of_the_metrics(self, tmp_path: Path) -> None:
        a_family(tmp_path)
        for run in selection.find([tmp_path]):
            facts = transcripts.run_facts(run)
            for name, outcomes in run.arms.items():
                counts = facts["arms"][name]["counts"]
                assert counts["improved"] == sum(o.improved for o in outcomes)
                assert counts["trials"] == len(outcomes) == facts["trials"]


def until(told: Callable[[], Any], wanted: Any) -> None:
    """Wait until the page says what is wanted."""
    for _ in range(100):
        if told() == wanted:
            return
        time.sleep(0.05)
    assert told() == wanted


def found(driver: WebDriver) -> str:
    return str(driver.execute_script("return document.getElementById('found').textContent"))


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


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    with chromium() as started:
        yield started


@needs_browser
class TestBrowser:
    def test_a_newcomer_finds_a_self_correction_and_its_number(
        self, driver: WebDriver, report: Path
    ) -> None:
        ready(driver, report.as_uri())
        assert "A response that corrected itself" in text_of(driver, "#example h2")
        driver.execute_script("document.getElementById('open-example').click()")
        until(lambda: text_of(driver, "#trial-title"), "Corrected itself: from 0 to 100 of 100")
        run = load_source(report.parent.parent / "results/experiment_01_esr/tiny/aaaa")
        rate = transcripts.run_facts(run)["arms"]["steered"]["esr_rate"]
        counts = text_of(driver, "#trial-counts")
        assert f"{rate['count']} of {rate['n']} graded trials" in counts
        assert f"{100 * rate['rate']:.2f} %" in counts
        assert "not evidence about large models" in text_of(driver, "#trial-setting")
        marks = driver.execute_script(
            "return [...document.querySelectorAll('#trial-attempts mark')].map(m => m.textContent)"
        )
        assert marks == ["Wait, that's not right", "Let me start over"]
        titles = driver.execute_script(
            "return [...document.querySelectorAll('#trial-attempts h5')].map(m => m.textContent)"
        )
        assert titles == ["Attempt 1, score 0", "Attempt 2, score 100"]

    def test_the_same_trial_stands_side_by_side(self, driver: WebDriver, report: Path) -> None:
        ready(driver, f"{report.as_uri()}#transcripts")
        script = "return [...document.querySelectorAll('.arm')].map(a => a.dataset.arm)"
        arms = ["steered", "ablation", "self_monitor", "no-steering"]
        until(lambda: driver.execute_script(script), arms)
        driver.execute_script("document.querySelectorAll('.choices input')[1].click()")
        until(lambda: driver.execute_script(script), [arms[0], *arms[2:]])

    def test_hostile_text_stays_text(self, driver: WebDriver, report: Path) -> None:
        ready(driver, f"{report.as_uri()}#transcripts")
        assert HOSTILE.strip()[:30] in text_of(driver, "#trial-attempts p")
        assert "<b>volcanoes</b>" in text_of(driver, ".row")
        assert driver.execute_script("return document.querySelectorAll('#trial img').length") == 0
        assert "owned" not in driver.title

    @pytest.mark.parametrize(
        ("filters", "keeps"),
        [
            ({}, lambda *_: True),
            ({"arm": "ablation"}, lambda t, _: t["arm"] == "ablation"),
            ({"experiment": "5"}, lambda t, _: t["arm"] == "self_monitor"),
            ({"latent": "7"}, lambda t, _: t["feature_index_in_sae"] == 7),
            ({"latent": "SUBJECT 11"}, lambda t, _: t["feature_index_in_sae"] == 11),
            ({"attempts": "multi"}, lambda _, s: len(s) > 1),
            ({"attempts": "single"}, lambda _, s: len(s) == 1),
            ({"outcome": "improved"}, lambda _, s: len(s) > 1 and s[-1] > s[0]),
            ({"outcome": "not-improved"}, lambda _, s: len(s) > 1 and s[-1] <= s[0]),
            ({"status": "refused"}, lambda t, _: t["error"] is not None),
            ({"text": "NUMERATORS 3?"}, lambda t, s: len(s) > 1 and "thing 3" in t["prompt"]),
            ({"model": "tiny", "run": "1-tiny-aaaa"}, lambda t, _: t["arm"] == "steered"),
        ],
    )
    def test_filters(
        self,
        driver: WebDriver,
        report: Path,
        filters: dict[str, str],
        keeps: Callable[[dict[str, Any], list[float]], bool],
    ) -> None:
        trials = [
            (trial, [a["score"] for a in trial["score"]["attempts"]])
            for file in sorted((report.parent.parent / "results").rglob("results.json"))
            for feature in json.loads(file.read_text())["results_by_feature"]
            for trial in feature["trials"]
        ]
        wanted = sum(bool(keeps(*item)) for item in trials)
        assert 0 < wanted <= 800
        ready(driver, report.as_uri())
        for name, value in filters.items():
            choose(driver, name, value)
        until(lambda: found(driver), f"{wanted} trials")
        # The address holds the view: opened anew, it shows the same.
        address = driver.current_url
        ready(driver, address)
        until(lambda: found(driver), f"{wanted} trials")

    def test_nothing_matches(self, driver: WebDriver, report: Path) -> None:
        ready(driver, report.as_uri())
        choose(driver, "text", "no such words anywhere")
        until(lambda: found(driver), "0 trials")
        assert "No trial matches" in text_of(driver, "#list")
        driver.execute_script("document.getElementById('reset').click()")
        until(lambda: found(driver), "800 trials")

    def test_keys_move_through_the_list(self, driver: WebDriver, report: Path) -> None:
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        ready(driver, f"{report.as_uri()}#transcripts")
        box = driver.find_element(By.ID, "list")
        box.send_keys(Keys.END)
        script = "return document.querySelector('.row[aria-selected=true]')?.ariaPosInSet"
        until(lambda: driver.execute_script(script), "800")
        box.send_keys(Keys.ARROW_UP)
        until(lambda: driver.execute_script(script), "799")
        rows = driver.execute_script("return document.querySelectorAll('.row').length")
        assert 0 < rows < 60

    def test_numbers_and_runs_lead_to_their_trials(self, driver: WebDriver, report: Path) -> None:
        ready(driver, report.as_uri())
        run = load_source(report.parent.parent / "results/experiment_01_esr/tiny/aaaa")
        improved = transcripts.run_facts(run)["arms"]["steered"]["counts"]["improved"]
        driver.execute_script("document.querySelector('.headline td a').click()")
        until(lambda: found(driver), f"{improved} trials")
        driver.execute_script("document.querySelector('#run-1-tiny-aaaa tbody a').click()")
        until(lambda: found(driver), "200 trials")

    def test_no_errors_and_no_network(self, driver: WebDriver, report: Path) -> None:
        driver.get_log("browser")
        driver.get_log("performance")
        ready(driver, f"{report.as_uri()}#transcripts")
        assert driver.get_log("browser") == []
        messages = [json.loads(e["message"])["message"] for e in driver.get_log("performance")]
        asked = [
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent"
        ]
        assert len(asked) > 8
        assert {url.partition(":")[0] for url in asked} <= {"file", "data"}

    @pytest.mark.parametrize("width", [360, 768, 1600])
    def test_fits_every_width(self, driver: WebDriver, report: Path, width: int) -> None:
        override = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", override)
        try:
            ready(driver, report.as_uri())
            wide = driver.execute_script("return document.documentElement.scrollWidth")
        finally:
            driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        assert wide <= width

    def test_every_field_has_a_name(self, driver: WebDriver, report: Path) -> None:
        ready(driver, report.as_uri())
        script = """
        return [...document.querySelectorAll("input, select, button, [role=listbox]")]
          .filter((e) => !(e.labels?.length || e.textContent.trim() || e.ariaLabel)).length
        """
        assert driver.execute_script(script) == 0

    def test_5000_trials_open_in_time(self, driver: WebDriver, tmp_path: Path) -> None:
        trials = arm_of_trials("steered", 9, latents=1000)
        assert len(trials) == 5000
        write_run(tmp_path / "results", "experiment_01_esr", "a", trials)
        address = make(tmp_path / "results", tmp_path / "out").as_uri()
        # The machine may be busy with something else: the best of three.
        seconds = [ready(driver, f"{address}#transcripts") for _ in range(3)]
        assert found(driver) == "5,000 trials"
        assert min(seconds) < MOST_SECONDS, seconds

    def test_more_than_can_be_shown_at_once_is_loaded_on_request(
        self, driver: WebDriver, tmp_path: Path
    ) -> None:
        for k in range(3):
            trials = arm_of_trials("steered", k, latents=401)
            facts = {"started": f"2026-01-0{k + 1}"}
            write_run(tmp_path / "results", "experiment_01_esr", f"r{k}", trials, facts=facts)
        ready(driver, make(tmp_path / "results", tmp_path / "out").as_uri())
        assert found(driver) == "4,010 trials"
        driver.execute_script("document.getElementById('load').click()")
        until(lambda: found(driver), "6,015 trials")

    def test_a_missing_script_is_told(self, driver: WebDriver, tmp_path: Path) -> None:
        a_family(tmp_path / "results", latents=4)
        made = make(tmp_path / "results", tmp_path / "out")
        (made.parent / "transcripts" / "3-tiny-b2.js").unlink()
        ready(driver, made.as_uri())
        assert found(driver) == "60 trials; cannot be read: transcripts/3-tiny-b2.js"
