"""Fetching and parsing the authors' files, against a local server with files of the same shape."""

from __future__ import annotations

import hashlib
import json
import textwrap
from pathlib import Path

import pytest

from esr import judge
from esr.errors import UserError
from esr.judge.rubric import get, read
from esr.models import prompts
from esr.runs import paths
from esr.runs.plain import file_digest
from esr.upstream import manifest
from esr.upstream.commands import main
from esr.upstream.convert import convert
from esr.upstream.extract import assigned_text, returned_pairs
from tests.upstream.site import Site

VARIANTS_FILE = "experiment_05_prompt_variants/__init__.py"


JUDGE = textwrap.dedent(
    '''
    import os
    raise SystemExit("this file must not be executed")
    SYSTEM_PROMPT = (
        "You grade. "
        "Be fair."
    )
    INSTRUCTIONS: str = """Grade this.
    Use {"attempts": []}."""
    '''
)


VARIANTS = textwrap.dedent(
    '''
    def _default_prompt_variants():
        """All of them."""
        return [
            ("self_monitor", "{prompt}\\n\\nStay on topic."),
            ("ignore", "{prompt} Ignore " + "{latent_label}."),
        ]
    '''
)


CONCRETENESS = textwrap.dedent(
    """
    class ConcretenessGrader:
        async def _grade_single_label_batch(self, labels):
            numbered = str(labels)
            prompt = f"Rate these {len(labels)} labels: {numbered} as {{json}}"
            return prompt
    """
)


WRITER = textwrap.dedent(
    '''
    def get_system_prompt(off_topic_subject: str) -> str:
        return f"""Digress to {off_topic_subject}, then come back."""
    '''
)


BOUNDARIES = 'SYSTEM_PROMPT = "Mark."\nUSER_PROMPT_TEMPLATE = """Text: {response}"""\n'


FILES = {
    "prompts.txt": "How do I boil an egg?\nHow do I iron a shirt?",
    "judge.py": JUDGE,
    VARIANTS_FILE: VARIANTS,
    "concreteness_filtering.py": CONCRETENESS,
    "experiment_09_activation_stats/annotate_boundaries.py": BOUNDARIES,
    "experiment_04_finetuning/generate_prompted_self_correction_data.py": WRITER,
    "experiment_04_finetuning/off_topic_subjects.txt": "glaciers\nviolins\n",
    "experiment_04_finetuning/dataset_normal_responses.json": '[{"messages": []}]',
    "data/off_topic_detectors.json": "{}",
    "data/normal_responses.json": json.dumps(["x" * 200_000]),
}


@pytest.fixture
def data(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a manifest of our files, and a site that serves them under /esr."""
    files = []
    for path, text in FILES.items():
        site.files[f"/esr/{path}"] = text.encode()
        files.append({"path": path, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    listed = {"repository": "someone/some-repo", "commit": "c" * 40, "files": files}
    target = tmp_path / "upstream.json"
    target.write_text(json.dumps(listed))
    monkeypatch.setattr(manifest, "MANIFEST", target)
    monkeypatch.setattr(paths, "WORK", tmp_path)
    return tmp_path


def test_committed_manifest() -> None:
    listed = manifest.load()
    assert len(listed.files) == 10
    assert {file.path for file in listed.files} == set(FILES)
    assert listed.url(listed.files[0]) == (
        "https://raw.githubusercontent.com/agencyenterprise/endogenous-steering-resistance/"
        "3c29a49f9077fa1df58f5e90b5cca7ae8621311c/prompts.txt"
    )
    assert all(len(file.sha256) == 64 for file in listed.files)


def test_fetch_and_parse(site: Site, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--mirror", f"{site.url}/esr/"]) == 0
    assert "2 prompts, 2 meta-prompts and the rubric" in capsys.readouterr().out
    found = prompts.load("upstream")
    assert [prompt.text for prompt in found.prompts] == FILES["prompts.txt"].splitlines()
    assert found.meta_prompts[0].render("Why?", "x") == "Why?\n\nStay on topic."
    assert found.meta_prompts[1].render("Why?", "eggs") == "Why? Ignore eggs."
    assert json.loads((data / "upstream" / "source.json").read_text())["commit"] == "c" * 40


@pytest.mark.usefixtures("data")
def test_rubric_upstream(site: Site) -> None:
    with pytest.raises(UserError, match=r"python -m esr\.upstream fetch"):
        get("upstream")
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 0
    rubric = get("upstream")
    request = rubric.request(judge.JudgeRequest("P?", "R.", "L"), rubric.output("schema"))
    assert request.system == "You grade. Be fair."
    assert request.fixed + request.user == (
        'Grade this.\nUse {"attempts": []}.\n\nPrompt: P?\nResponse: R.\nUnrelated feature: L'
    )
    assert request.schema is None


def test_fetch_resumes_and_checks(
    site: Site, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    big = "/esr/data/normal_responses.json"
    site.cut.append(big)
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 2
    assert "repeat the command" in capsys.readouterr().err
    site.asked.clear()
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 0
    assert len(site.asked) == 1, "files that were right were downloaded again"
    path, asked_range = site.asked[0]
    assert path == big
    assert asked_range is not None, "the download did not go on where it had ended"
    content = (data / "upstream" / "data" / "normal_responses.json").read_text()
    assert json.loads(content) == ["x" * 200_000]

    site.files["/esr/prompts.txt"] = b"How do I do harm?"
    (data / "upstream" / "prompts.txt").unlink()
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert not (data / "upstream" / "prompts.txt").exists(), "a wrong file was kept"


def test_a_fetched_file_that_was_changed_is_fetched_again(site: Site, data: Path) -> None:
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 0
    (data / "upstream" / "prompts.txt").write_text("How do I cheat?")
    site.asked.clear()
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 0
    assert [path for path, _ in site.asked] == ["/esr/prompts.txt"]
    assert prompts.load("upstream").prompts[0].text == "How do I boil an egg?"


def test_what_was_read_from_the_authors_files_must_stay_as_it_is(site: Site, data: Path) -> None:
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 0
    for name, load in (("prompts.json", prompts.load), ("rubric.toml", get)):
        path = data / "upstream" / name
        text = path.read_text()
        load("upstream")
        path.write_text(text.replace("egg", "bomb").replace("Be fair", "Be kind"))
        with pytest.raises(UserError, match=f"{name}.*was edited"):
            load("upstream")
        path.write_text("{")
        with pytest.raises(UserError, match=name):
            load("upstream")


def test_texts_with_odd_characters_survive_the_rubric_file(tmp_path: Path) -> None:
    odd = 'a "quote", a \\ backslash, \x7f, \u2028, \U0001f600\ttab\nline'
    judge_file = f"SYSTEM_PROMPT = {odd!r}\nINSTRUCTIONS = 'i'"
    (tmp_path / "experiment_05_prompt_variants").mkdir()
    for path, text in {**FILES, "judge.py": judge_file}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    files = [manifest.File(p, file_digest(tmp_path / p)) for p in ("prompts.txt", "judge.py")]
    files.append(manifest.File(VARIANTS_FILE, file_digest(tmp_path / VARIANTS_FILE)))
    assert convert(manifest.Manifest("r", "c", tuple(files)), tmp_path) == (2, 2)
    assert read(tmp_path / "rubric.toml").system == odd


@pytest.mark.usefixtures("data")
def test_missing_upstream_file(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--mirror", f"{site.url}/nowhere"]) == 2
    assert "--mirror" in capsys.readouterr().err


@pytest.mark.usefixtures("data")
def test_dry_run_fetches_nothing(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "--dry-run", "--mirror", site.url]) == 0
    assert main(["labels", "8b", "--dry-run", "--mirror", site.url]) == 0
    assert "19-resid-post-gf" in capsys.readouterr().out
    assert not site.asked


@pytest.mark.parametrize(
    "source", ["SYSTEM_PROMPT = open('x').read()", "OTHER = 'a'", "def f(:", "SYSTEM_PROMPT = 3"]
)
def test_other_shapes_are_refused(source: str) -> None:
    with pytest.raises(UserError, match="not of the expected shape"):
        assigned_text(source, "SYSTEM_PROMPT", "judge.py")
    with pytest.raises(UserError, match="not of the expected shape"):
        returned_pairs(source, "_default_prompt_variants", "x.py")


def test_a_download_without_an_end_is_given_up(
    site: Site, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("esr.upstream.fetch.LARGEST", 100_000)
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 2
    assert "normal_responses.json is too large; allowed: 100,000 bytes" in capsys.readouterr().err
    left = list((data / "upstream").rglob("normal_responses*"))
    assert left == [], "what came of it was left on the disk"


def test_nothing_is_written_outside_the_folder(
    site: Site, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = json.loads(manifest.MANIFEST.read_text())
    outside = data / "outside.txt"
    for path in ("../outside.txt", str(outside)):
        files = [{"path": path, "sha256": "0" * 64}, *listed["files"]]
        manifest.MANIFEST.write_text(json.dumps({**listed, "files": files}))
        assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 2
        assert "leads out of" in capsys.readouterr().err
    manifest.MANIFEST.write_text(json.dumps(listed))
    (data / "upstream").mkdir(exist_ok=True)
    (data / "upstream" / "prompts.txt.part").symlink_to(outside)
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 2
    assert "is a link" in capsys.readouterr().err
    assert not outside.exists()
    (data / "upstream" / "prompts.txt.part").unlink()
    outside.mkdir()
    (data / "upstream" / "data").symlink_to(outside)
    assert main(["fetch", "--mirror", f"{site.url}/esr"]) == 2
    assert "leads out of" in capsys.readouterr().err
    assert list(outside.iterdir()) == []
