"""The documentation as a site: all pages there, links lead somewhere, nothing from outside."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from esr.runs.paths import REPOSITORY


class Page(HTMLParser):
    """Anchors and links of a page; and what a browser would load with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what a tag names, leads to or loads."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "preconnect", "icon"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as ``make docs`` builds it: a warning, such as a link to nowhere, is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    files = sorted(site.rglob("*.html"))
    return {
        file.relative_to(site).as_posix(): Page(file.read_text(encoding="utf-8"))
        for file in files
        if file.name != "404.html"
    }


def test_there_is_a_page_for_everything(pages: dict[str, Page]) -> None:
    experiments = [p.parent.name for p in REPOSITORY.glob("experiment_*/README.md")]
    rooms = [p.parent.name for p in (REPOSITORY / "esr").glob("*/__init__.py")]
    assert len(experiments) >= 10
    wanted = [f"experiments/{name}.html" for name in experiments]
    wanted += [f"reference/{name}.html" for name in rooms]
    wanted += [f"{p.stem}.html" for p in (REPOSITORY / "docs").glob("*.md")]
    wanted += ["index.html", "deviations.html", "contributing.html", "schema.html"]
    assert [name for name in wanted if name not in pages] == []


def test_every_link_and_anchor_leads_somewhere(site: Path, pages: dict[str, Page]) -> None:
    broken, checked = [], 0
    for name, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (site / name).parent / unquote(parts.path) if parts.path else site / name
            checked += 1
            there = target.resolve()
            if not there.is_file():
                broken.append(f"{name}: {link}")
            elif parts.fragment and there.suffix == ".html":
                anchors = pages[there.relative_to(site.resolve()).as_posix()].anchors
                if unquote(parts.fragment) not in anchors:
                    broken.append(f"{name}: {link}")
    assert checked > 1000
    assert broken == []


def test_nothing_is_loaded_from_another_host(pages: dict[str, Page]) -> None:
    loaded = [link for page in pages.values() for link in page.loaded]
    assert loaded
    assert [link for link in loaded if re.match(r"(https?:)?//", link)] == []


def test_the_reference_has_shapes_and_errors_of_the_docstrings(site: Path) -> None:
    text = (site / "reference" / "steering.html").read_text(encoding="utf-8")
    assert 'id="esr.steering.interventions.Boost"' in text
    assert 'id="esr.steering.kernel.steer"' in text
    engine = (site / "reference" / "engine.html").read_text(encoding="utf-8")
    assert "One response to generate." in engine
    schema = (site / "schema.html").read_text(encoding="utf-8")
    assert "results_by_feature" in schema
    assert "schema/results.json" in schema
