"""The browser of transcripts on the report page, driven as a reader drives it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from plotting.report import tables
from plotting.sources import load_source
from tests.browser import chromium, needs_browser
from tests.made_up_runs import (
    HOSTILE,
    OFF,
    ON,
    RESTART,
    a_family,
    arm_of_trials,
    write_run,
)
from tests.plotting.reports import choose, make, ready, tally, text_of, until

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver


MOST_SECONDS = 2.0
"""In which 5,000 trials must open."""


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
        rate = tables.run(run)["arms"]["steered"]["esr_rate"]
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
        until(lambda: tally(driver), f"{wanted} trials")
        # The address holds the view: opened anew, it shows the same.
        address = driver.current_url
        ready(driver, address)
        until(lambda: tally(driver), f"{wanted} trials")

    def test_nothing_matches(self, driver: WebDriver, report: Path) -> None:
        ready(driver, report.as_uri())
        choose(driver, "text", "no such words anywhere")
        until(lambda: tally(driver), "0 trials")
        assert "No trial matches" in text_of(driver, "#list")
        driver.execute_script("document.getElementById('reset').click()")
        until(lambda: tally(driver), "800 trials")

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
        improved = tables.run(run)["arms"]["steered"]["counts"]["improved"]
        driver.execute_script("document.querySelector('.headline td a').click()")
        until(lambda: tally(driver), f"{improved} trials")
        driver.execute_script("document.querySelector('#run-1-tiny-aaaa tbody a').click()")
        until(lambda: tally(driver), "200 trials")

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
        assert len(asked) == 8
        assert {url.partition(":")[0] for url in asked} <= {"file", "data"}

    def test_nothing_may_be_loaded_from_elsewhere(self, driver: WebDriver, report: Path) -> None:
        ready(driver, report.as_uri())
        blocked = driver.execute_async_script(
            """
            const done = arguments[arguments.length - 1];
            const blocked = [];
            document.addEventListener("securitypolicyviolation", (event) => {
              blocked.push(event.effectiveDirective);
              if (blocked.length === 3) done(blocked.sort());
            });
            fetch("http://127.0.0.1:9/").catch(() => null);
            for (const tag of ["img", "script"]) {
              const element = document.createElement(tag);
              element.src = "http://127.0.0.1:9/";
              document.body.append(element);
            }
            """
        )
        assert blocked == ["connect-src", "img-src", "script-src-elem"]

    def test_a_filter_that_only_tells_of_its_change_works(
        self, driver: WebDriver, report: Path
    ) -> None:
        ready(driver, report.as_uri())
        script = """
        const field = document.getElementById("filters").elements.experiment;
        field.value = "5";
        field.dispatchEvent(new Event("change", { bubbles: true }));
        """
        driver.execute_script(script)
        until(lambda: tally(driver), "200 trials")
        # The change that follows an input does not move the view.
        driver.execute_script("document.querySelectorAll('.row')[3].click()")
        address = driver.current_url
        driver.execute_script(script)
        time.sleep(0.4)
        assert driver.current_url == address
        assert "open=5-tiny-b3." in address

    @pytest.mark.parametrize(
        ("view", "problem"),
        [
            ("run=bogus&open=nosuch.1", "This report has no run “bogus”."),
            ("model=71b&arm=steered", "This report has no model “71b”."),
            (
                "open=bogus.3",
                "The linked trial is of run “bogus”, which this report does not have.",
            ),
            ("open=1-tiny-aaaa.900", "Run “1-tiny-aaaa” has no trial “900” in this report."),
            (
                "open=1-tiny-aaaa.7&latent=9&run=1-tiny-aaaa",
                "The linked trial does not match these filters.",
            ),
            ("open=1-tiny-aaaa.7", ""),
        ],
    )
    def test_a_link_that_leads_nowhere_says_so(
        self, driver: WebDriver, report: Path, view: str, problem: str
    ) -> None:
        ready(driver, f"{report.as_uri()}#transcripts?{view}")
        assert text_of(driver, "#problem") == problem
        hidden = driver.execute_script("return document.getElementById('problem').hidden")
        assert hidden == (not problem)

    def test_what_is_filtered_can_be_saved(
        self, driver: WebDriver, report: Path, tmp_path: Path
    ) -> None:
        behaviour = {"behavior": "allow", "downloadPath": str(tmp_path)}
        driver.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        ready(driver, f"{report.as_uri()}#transcripts?run=1-tiny-aaaa&latent=1")
        assert tally(driver) == "5 trials"
        driver.execute_script("document.getElementById('csv').click()")
        until(lambda: [p.name for p in tmp_path.iterdir()], ["trials.csv"])
        table = pd.read_csv(tmp_path / "trials.csv")
        assert len(table) == 5
        clear = table[table.label == "<b>volcanoes</b>"].iloc[0]
        assert (clear["scores"], clear["improved"], clear["boost"]) == ("0 100", True, 8.5)
        assert clear["response"].replace("\r", "") == HOSTILE + OFF + RESTART + ON

    def test_the_judges_answer_is_loaded_when_it_is_opened(
        self, driver: WebDriver, report: Path
    ) -> None:
        ready(driver, f"{report.as_uri()}#transcripts?run=1-tiny-aaaa&open=1-tiny-aaaa.3")
        assert text_of(driver, "#trial-answer pre") == ""
        driver.execute_script("document.getElementById('trial-answer').open = true")
        until(lambda: text_of(driver, "#trial-answer pre"), "<judge> 1 attempts")

    def test_a_latent_with_its_calibration_and_its_trials(
        self, driver: WebDriver, report: Path
    ) -> None:
        ready(driver, f"{report.as_uri()}#transcripts?run=3-tiny-b2&latent=7")
        until(lambda: "Threshold 9.5" in text_of(driver, "#trial-latent"), True)
        note = text_of(driver, "#trial-latent .note")
        assert "(95 % of the posterior: 7.50 to 11.50) after 2 rounds, 1 skipped" in note
        label = "return document.querySelector('.curve').getAttribute('aria-label')"
        expected = "Mean first-attempt score by boost: 80 at 5.00, 35 at 9.50"
        assert driver.execute_script(label) == expected
        count = "return document.querySelectorAll('#trial-latent li').length"
        assert driver.execute_script(count) == 5
        driver.execute_script("document.querySelectorAll('#trial-latent li a')[4].click()")
        script = "return document.querySelector('.row[aria-selected=true] .prompt').textContent"
        until(lambda: driver.execute_script(script), "ablation · How do I do thing 4?")

    def test_a_latent_of_a_published_dictionary_has_a_link(
        self, driver: WebDriver, tmp_path: Path
    ) -> None:
        config = {"model": "70b", "model_title": "Llama-3.3-70B", "organism": False}
        trials = arm_of_trials("steered", 1, 3)
        write_run(tmp_path / "r", "experiment_01_esr", "a", trials, config=config)
        ready(driver, make(tmp_path / "r", tmp_path / "out").as_uri() + "#transcripts?latent=2")
        script = "return document.querySelector('#trial-latent a[rel]')?.href"
        address = "https://www.neuronpedia.org/llama3.3-70b-it/50-resid-post-gf/2"
        until(lambda: driver.execute_script(script), address)

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
        assert tally(driver) == "5,000 trials"
        assert min(seconds) < MOST_SECONDS, seconds

    def test_more_than_can_be_shown_at_once_is_loaded_on_request(
        self, driver: WebDriver, tmp_path: Path
    ) -> None:
        for k in range(3):
            trials = arm_of_trials("steered", k, latents=401)
            facts = {"started": f"2026-01-0{k + 1}"}
            write_run(tmp_path / "results", "experiment_01_esr", f"r{k}", trials, facts=facts)
        ready(driver, make(tmp_path / "results", tmp_path / "out").as_uri())
        assert tally(driver) == "4,010 trials"
        driver.execute_script("document.getElementById('load').click()")
        until(lambda: tally(driver), "6,015 trials")

    def test_words_are_sought_in_runs_that_are_not_loaded(
        self, driver: WebDriver, tmp_path: Path
    ) -> None:
        for k in range(3):
            trials = arm_of_trials("steered", k, latents=401)
            trials[9]["response"] = f"nowhere but here {k}"
            facts = {"started": f"2026-01-0{k + 1}"}
            write_run(tmp_path / "results", "experiment_01_esr", f"r{k}", trials, facts=facts)
        ready(driver, make(tmp_path / "results", tmp_path / "out").as_uri())
        assert tally(driver) == "4,010 trials"
        choose(driver, "text", "nowhere here")
        until(lambda: tally(driver), "3 trials")

    def test_a_missing_script_is_told(self, driver: WebDriver, tmp_path: Path) -> None:
        a_family(tmp_path / "results", latents=4)
        made = make(tmp_path / "results", tmp_path / "out")
        (made.parent / "transcripts" / "3-tiny-b2.js").unlink()
        ready(driver, made.as_uri())
        assert tally(driver) == "60 trials; cannot be read: transcripts/3-tiny-b2.js"
