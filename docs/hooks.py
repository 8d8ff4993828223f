"""Hooks of MkDocs: pages that are made from files outside ``docs/``, the reference, and the links.

README, the experiments' READMEs, DEVIATIONS and the like are pages where they stand, so that no
sentence stands twice. A link to a file that is no page, such as a test, keeps its words alone: the
site has no copy of the source.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

HOME = "index.md"

OUTSIDE = {
    HOME: "README.md",
    "deviations.md": "DEVIATIONS.md",
    "contributing.md": "CONTRIBUTING.md",
    "organism.md": "data/organism/README.md",
    "benchmarks.md": "benchmarks/README.md",
}
"""Page -> file of the repository it is made from."""

NAV: dict[str, list[str]] = {
    "Start": ["quickstart.md", "own-model.md", "costs.md", "scale.md", "deviations.md"],
    "Experiments": [],
    "Method": ["statistics.md", "steering.md", "judges.md", "pairing-fault.md", "organism.md"],
    "Evidence": ["models.md", "reliability.md", "benchmarks.md", "vllm-versions.md"],
    "Data": ["schema.md", "inspect.md"],
    "House": ["architecture.md", "contributing.md"],
    "Reference": [],
}
"""Headings and their pages; a page that stands in none comes under House."""

_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, with whatever experiments, rooms and further pages there are."""
    own = {path.name for path in (ROOT / "docs").glob("*.md")}
    nav = {heading: [*pages] for heading, pages in NAV.items()}
    nav["Experiments"] = list(_experiments())
    nav["Reference"] = list(_reference())
    listed = {HOME, *(page for pages in nav.values() for page in pages)}
    nav["House"] += sorted(own - listed)
    config.nav = [HOME, *({heading: pages} for heading, pages in nav.items())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages whose text is not below ``docs/``."""
    made = {page: (ROOT / source).read_text("utf-8") for page, source in _sources().items()}
    made |= {**_reference(), "schema.md": _schemas()}
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they hold in the repository become links of the site."""
    del config
    uri = page.file.src_uri
    if uri in _reference() or uri == "schema.md":
        return markdown
    source = _sources().get(uri, f"docs/{uri}")
    parts = _FENCE.split(markdown)
    return "".join(
        part if part.startswith("```") else _LINK.sub(lambda m: _link(m, source, uri, files), part)
        for part in parts
    )


def _sources() -> dict[str, str]:
    return {**OUTSIDE, **_experiments()}


def _experiments() -> dict[str, str]:
    readmes = sorted(ROOT.glob("experiment_*/README.md"))
    return {f"experiments/{p.parent.name}.md": f"{p.parent.name}/README.md" for p in readmes}


def _link(match: re.Match[str], source: str, uri: str, files: Files) -> str:
    """One link of a page.

    Raises:
        FileNotFoundError: it leads nowhere; the build stops.
    """
    image, text, target = match.groups()
    path, _, anchor = target.partition("#")
    if re.match(r"[a-z]+:", target) or not path:
        return match[0]
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if not (ROOT / there).exists():
        raise FileNotFoundError(f"{source} links to {target}, which is not there")
    pages = {file: page for page, file in _sources().items()}
    page = pages.get(there) or pages.get(f"{there}/README.md") or there.removeprefix("docs/")
    if files.get_file_from_path(page) is None:
        return text
    link = posixpath.relpath(page, posixpath.dirname(uri) or ".")
    return f"{image}[{text}]({link}{'#' + anchor if anchor else ''})"


def _reference() -> dict[str, str]:
    """A page for each room of ``esr/``: its docstring, then every module's contents."""
    pages = {}
    for room in sorted(p.parent for p in (ROOT / "esr").glob("*/__init__.py")):
        names = [p.stem for p in sorted(room.glob("*.py")) if not p.stem.startswith("__")]
        package = f"esr.{room.name}"
        modules = "\n".join(f"::: {package}.{name}\n" for name in names)
        head = f"# {package}\n\n::: {package}\n    options:\n      members: false\n"
        head += "      show_root_heading: false\n"
        pages[f"reference/{room.name}.md"] = f"{head}\n{modules}"
    return pages


def _schemas() -> str:
    """Keys of the files of a run, from the JSON schemas beside them."""
    parts = [
        "# Files of a run\n",
        "What `run.json`, `results.json` and `journal.jsonl` hold, from the JSON schemas that are "
        "tested against what every experiment writes. `authors.json` is the part of "
        "`results.json` that the authors' own files have.\n",
    ]
    for path in sorted((ROOT / "docs" / "schema").glob("*.json")):
        parts.append(f"## [{path.name}](schema/{path.name})\n")
        parts += _types(json.loads(path.read_text("utf-8")))
    return "\n".join(parts)


def _types(schema: dict[str, Any]) -> Iterator[str]:
    own = {str(schema.get("title") or "The file"): schema} if schema.get("properties") else {}
    for name, kind in {**own, **schema.get("$defs", {})}.items():
        if not kind.get("properties"):
            continue
        about = " ".join(str(kind.get("description") or "").split("\n\n")[0].split())
        yield f"### {name}\n"
        yield f"{about.replace('<', '&lt;')}\n"
        yield "| key | type | required |\n|---|---|---|"
        required = kind.get("required", [])
        for key, value in kind["properties"].items():
            yield f"| `{key}` | {_kind(value)} | {'yes' if key in required else ''} |"
        yield ""


def _kind(value: dict[str, Any]) -> str:
    """A type in a word or two."""
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2]
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(part) for part in value["anyOf"]))
    if "const" in value or "enum" in value:
        return ", ".join(f"`{v}`" for v in value.get("enum", [value.get("const")]))
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items') or {})}"
    if value.get("type") == "object" and isinstance(value.get("additionalProperties"), dict):
        return f"object of {_kind(value['additionalProperties'])}"
    return str(value.get("type") or "any")
