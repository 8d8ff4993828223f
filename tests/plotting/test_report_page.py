"""The report page: attempts in place, text never markup, and the browser of transcripts."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from esr.errors import UserError
from esr.judge.lexical import restart_spans
from esr.judge.spans import attempt_spans
from plotting import paper_numbers, selection
from plotting.measured import measure
from plotting.published import compare
from plotting.report import page, tables, transcripts
from plotting.sources import load_source
from tests.browser import chromium, needs_browser
from tests.made_up_runs import (
    HOSTILE,
    OFF,
    ON,
    RESTART,
    a_family,
    arm_of_trials,
    attempts,
    write_run,
)

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

MOST_SECONDS = 2.0
"""In which 5,000 trials must open."""


class TestAttempts:
    def test_restart_phrases(self) -> None:
        text = f"{OFF}{RESTART}{ON}"
        phrases = [text[a:b] for a, b in restart_spans(text)]
        assert phrases == ["Wait, that's not right", "Let me start over"]
        assert restart_spans(ON) == []

    def test_stretches_hold_the_whole_response(self) -> None:
        text = f"Well. {OFF}{RESTART}{ON}The end."
        quotes = [OFF.strip(), f"{RESTART}{ON}".strip(), "said by nobody"]
        attempts = zip(attempt_spans(text, quotes), quotes, (0.0, 75.5, None), strict=True)
        stretches = transcripts.blocks(text, attempts)
        assert [(b.attempt, b.score, b.quoted) for b in stretches] == [
            (0, None, False),
            (1, 0.0, False),
            (0, None, False),
            (2, 75.5, False),
            (3, None, True),
            (0, None, False),
        ]
        assert "".join(part for b in stretches if not b.quoted for part in b.parts) == text
        assert stretches[3].parts[1::2] == ["Wait, that's not right", "Let me start over"]
        assert stretches[4].parts == ["said by nobody"]

    def test_spans_that_overlap_repeat_no_text(self) -> None:
        attempts = [((0, 5), "", 1.0), ((3, 8), "", 2.0), ((2, 4), "inside", 3.0)]
        stretches = transcripts.blocks("0123456789", attempts)
        assert [b.parts for b in stretches] == [["01234"], ["567"], ["inside"], ["89"]]


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
        assert {"assets/page.css", "assets/page.js", "assets/data.js"} < set(used)
        for name in used:
            assert name == "data:," or (folder / name).is_file(), name
        named = {
            address
            for file in folder.rglob("*.*s")
            for address in re.findall(r'https?://[^"/]*', file.read_text())
        }
        # The name of a format, and a page that is only linked to.
        assert named == {"http://www.w3.org", "https://www.neuronpedia.org"}

    def test_says_it_is_an_organism_in_every_part(self, report: Path) -> None:
        parts = re.split(r"<section ", report.read_text())[1:]
        assert [re.findall('id="([a-z]+)"', p)[0] for p in parts] == [
            *("overview", "figures", "numbers", "runs", "transcripts")
        ]
        assert all("not evidence about large models" in part for part in parts)

    def test_transcripts_hold_every_trial(self, report: Path) -> None:
        run = load_source(report.parent.parent / "results/experiment_01_esr/tiny/aaaa")
        data = script_data(report.parent / "transcripts" / f"{run.key}.js")
        recorded = [t for f in run.data["results_by_feature"] for t in f["trials"]]
        assert len(data["trials"]) == len(recorded) == 200
        place = {name: k for k, name in enumerate(data["fields"])}
        for row, trial in zip(data["trials"], recorded, strict=True):
            assert row[place["id"]] == trial["trial_id"]
            assert row[place["prompt"]] == trial["prompt"]
            assert row[place["label"]] == trial["feature_label"]
            assert row[place["status"]] == trial["score"]["status"]
            stretches = [transcripts.Block(*block) for block in row[place["blocks"]]]
            whole = "".join(part for b in stretches if not b.quoted for part in b.parts)
            assert whole == trial["response"]
            attempts = [(b.score, "".join(b.parts)) for b in stretches if b.attempt]
            quoted = trial["score"]["attempts"]
            assert attempts == [(a["score"], a["attempt_text"].strip()) for a in quoted]

    def test_what_the_judge_answered_and_how_boosts_came_about(self, report: Path) -> None:
        run = load_source(report.parent.parent / "results/experiment_01_esr/tiny/aaaa")
        folder = report.parent / "transcripts"
        answers = script_data(folder / f"{run.key}.answers.js")
        recorded = [t for f in run.data["results_by_feature"] for t in f["trials"]]
        assert answers == [t["score"]["raw_response"] for t in recorded]
        latents = script_data(folder / f"{run.key}.js")["latents"]
        assert latents["7"]["scores"] == [[5.0, 80.0], [9.0, None], [9.5, 35.0]]
        assert (latents["7"]["value"], latents["7"]["low"]) == (9.5, 7.5)

    def test_half_a_character_ends_no_report(self, tmp_path: Path) -> None:
        trials = arm_of_trials("steered", 1, 4)
        trials[3]["response"] = OFF + RESTART + ON
        attempt_texts = [OFF, RESTART + ON]
        trials[3]["score"] = {"attempts": attempts(attempt_texts, [0.0, 100.0]), "status": "graded"}
        trials[3]["prompt"] = trials[3]["feature_label"] = "half \ud83c of a volcano"
        write_run(tmp_path / "results", "experiment_01_esr", "a", trials)
        text = make(tmp_path / "results", tmp_path / "out").read_text()
        assert "half \\ud83c of a volcano" in text

    def test_runs_are_told_apart_by_name(self, tmp_path: Path) -> None:
        root, trials = tmp_path / "results", arm_of_trials("self_monitor", 1, 4)
        package = "experiment_05_prompt_variants"
        for name in ("self_monitor", "resist_manipulation"):
            write_run(root, package, name, trials, config={"prompt_variant_id": name})
        off = {"prompt_variant_id": "self_monitor", "no_steering": True}
        write_run(root, package, "off", trials, config=off)
        write_run(root, "experiment_01_esr", "few", trials, config={"n_latents": 4})
        write_run(root, "experiment_03_find_detectors", "a", [])
        write_run(root, "finetuning-data", "b", [])
        write_run(root, "finetuning", "c", [])
        text = make(root, tmp_path / "out").read_text()
        names = re.findall(r"<summary><strong>([^<]*)</strong>, (.*?) <span", text)
        assert [heading[0] for heading, _ in names] == ["1", "3", "4", "4", "5", "5", "5"]
        assert sorted(names) == [
            ("1 · ESR across models", "tiny organism, --n-latents 4"),
            ("3 · Search for off-topic detectors", "tiny organism"),
            ("4 · Data for fine-tuning", "tiny organism"),
            ("4 · Fine-tuning, training", "tiny organism"),
            ("5 · Meta-prompts", "tiny organism, resist_manipulation"),
            ("5 · Meta-prompts", "tiny organism, self_monitor"),
            ("5 · Meta-prompts", "tiny organism, self_monitor, no steering"),
        ]
        runs = re.split('<section id="', text)[4]
        assert "Later versions" not in runs

    @pytest.mark.parametrize(
        ("argv", "expected"),
        [
            (
                ["/x/bin/python", "/y/experiment_01_esr/__main__.py", "tiny"],
                "/x/bin/python -m experiment_01_esr tiny",
            ),
            (
                ["python", "-m", "a", "--variants", "do {prompt} it"],
                "python -m a --variants 'do {prompt} it'",
            ),
            ([], ""),
        ],
    )
    def test_the_command_can_be_typed(self, argv: list[str], expected: str) -> None:
        assert tables.command(argv) == expected

    def test_latents_that_failed_are_told(self, tmp_path: Path) -> None:
        folder = write_run(tmp_path, "experiment_01_esr", "a", arm_of_trials("steered", 1, 3))
        data = json.loads((folder / "results.json").read_text())
        data["results_by_feature"][1] |= {"error": "calibration: 1 of 5 rounds scored"}
        (folder / "results.json").write_text(json.dumps(data))
        told = tables.latents(load_source(folder))
        assert told == "3, of which 1 failed (1: calibration: 1 of 5 rounds scored)"

    def test_a_run_that_cannot_be_shown_costs_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_run(tmp_path / "r", "experiment_01_esr", "a", arm_of_trials("steered", 1, 3))
        odd = {"hardware": {"gpus": 3, "cores": 2}}
        trials = arm_of_trials("steered", 1, 3)
        write_run(tmp_path / "r", "experiment_01_esr", "odd", trials, facts=odd)
        text = make(tmp_path / "r", tmp_path / "out").read_text()
        assert text.count('<details id="run-') == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "odd cannot be used (TypeError" in line

    def test_captions_stand_below_the_figures(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"\x89PNG" + b"\0" * 30)
        (tmp_path / "a.caption.md").write_text("**What it shows.**\n\nJudge: <lexical>.\n")
        figure = page.Figure("a", "Title", "Figure 1", 1)
        text = page.write(tmp_path, [], [], [figure], []).read_text()
        assert "<p>What it shows.</p><p>Judge: &lt;lexical&gt;." in text

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
        assert "There are no runs." in text
        assert "organism" not in re.sub(r"experiment_\S+ tiny", "", text)

    def test_rates_of_the_page_are_those_of_the_metrics(self, tmp_path: Path) -> None:
        a_family(tmp_path)
        for source in selection.find([tmp_path]):
            run = tables.run(source)
            for name, outcomes in source.arms.items():
                counts = run["arms"][name]["counts"]
                assert counts["improved"] == sum(o.improved for o in outcomes)
                assert counts["trials"] == len(outcomes) == run["trials"]


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
