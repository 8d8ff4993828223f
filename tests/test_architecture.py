"""The import rule of CONTRIBUTING.md, checked on the source; and docs/architecture.md, written.

``python -m tests.test_architecture`` writes the table of rooms in docs/architecture.md anew;
``python -m tests.trace_prompt --write`` does so with the list of files one prompt passes.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"

FLOORS = (
    *("errors", "runs", "steering", "models", "upstream", "engine"),
    *("judge", "analysis", "pipeline", "directions", "evals", "export", "organism"),
)
"""Rooms of ``esr/`` and its one file, from the ground up: what stands left knows nothing of what
stands right of it."""

ABOVE = ("experiment_", "plotting", "benchmarks", "tests")
"""Top folders that use ``esr/`` and that nothing in it may know."""

DOOR_STATEMENTS = 5
"""Most statements of a ``__main__.py``, imports and docstrings not counted."""


@dataclass(frozen=True)
class Arrow:
    """An import, as the source has it.

    Attributes:
        source: module that imports, dotted.
        target: module that is imported.
        line: where.
    """

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source} line {self.line} imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    """Every module of the repository by dotted name; a package stands for its ``__init__.py``."""
    folders = [p for p in ROOT.iterdir() if p.name == "esr" or p.name.startswith(ABOVE)]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    return {_dotted(file.relative_to(ROOT)): file for file in sorted(files)}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def tree(module: str) -> ast.Module:
    """Its syntax tree."""
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def arrows() -> tuple[Arrow, ...]:
    """All imports of our own modules: at the top, inside functions, and for types alone."""
    return tuple(arrow for module in modules() for arrow in imports(module, tree(module)))


def imports(module: str, syntax: ast.Module) -> Iterator[Arrow]:
    """Our own modules that one module's source imports."""
    names = modules()
    for node in ast.walk(syntax):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            # ``from package import module`` is an arrow to the module.
            whole = [f"{base}.{alias.name}" for alias in node.names]
            targets = [name if name in names else base for name in whole]
        else:
            continue
        for target in dict.fromkeys(targets):
            if target in names and target != module:
                yield Arrow(module, target, node.lineno)


def _absolute(module: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    is_package = modules()[module].name == "__init__.py"
    parts = module.split(".")
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])


def room(module: str) -> str:
    """``esr.judge.llm`` -> ``judge``; ``esr`` itself and everything outside -> the top folder."""
    parts = module.split(".")
    return parts[1] if parts[0] == "esr" and len(parts) > 1 else parts[0]


def is_door(module: str) -> bool:
    """A ``__main__.py``: where a command comes in."""
    return module.endswith(".__main__")


def goes_up(arrow: Arrow) -> bool:
    """Whether the arrow breaks the rule; a door may open into any room of ``esr``."""
    here, there = room(arrow.source), room(arrow.target)
    if not arrow.source.startswith("esr"):
        return _breaks_peace(arrow)
    if not arrow.target.startswith("esr."):
        return True
    if here == "esr" or is_door(arrow.source):
        return False
    return FLOORS.index(there) > FLOORS.index(here)


def _breaks_peace(arrow: Arrow) -> bool:
    """Experiments know nothing of each other, figures nothing of experiments; nobody knows tests,
    which alone, with the benchmarks, may use everything."""
    here, there = room(arrow.source), room(arrow.target)
    free = here == there or arrow.target.startswith("esr")
    return not (free or here == "tests" or (here == "benchmarks" and there != "tests"))


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that all reach each other, of more than one node (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    result: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in graph.get(node, ()):
            if other not in number:
                visit(other)
            if other in stack:
                lowest[node] = min(lowest[node], lowest[other])
        if lowest[node] == number[node]:
            start = stack.index(node)
            group = stack[start:]
            del stack[start:]
            if len(group) > 1:
                result.append(sorted(group))

    for node in graph:
        if node not in number:
            visit(node)
    return result


def graph_of(drawn: tuple[Arrow, ...]) -> dict[str, set[str]]:
    """Adjacency of the modules of ``esr``."""
    graph: dict[str, set[str]] = {name: set() for name in modules() if name.startswith("esr")}
    for arrow in drawn:
        if arrow.source in graph and arrow.target in graph:
            graph[arrow.source].add(arrow.target)
    return graph


def statements(syntax: ast.Module) -> int:
    """Statements of a module without imports, docstrings and the lines that open a block."""
    plain = [n for n in ast.walk(syntax) if isinstance(n, ast.stmt)]
    blocks = (ast.FunctionDef, ast.AsyncFunctionDef, ast.If)
    return sum(
        not isinstance(node, (ast.Import, ast.ImportFrom, *blocks))
        and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in plain
    )


def purpose(package: str) -> str:
    """First sentence of a module's docstring, on one line."""
    text = " ".join((ast.get_docstring(tree(package)) or "").split())
    return text.split(". ")[0].removesuffix(".")


def rooms_table() -> str:
    """One line per room, the top floor first: purpose, what it may import, what it imports."""
    lines = ["| room | what it is for | may import | imports |", "|---|---|---|---|"]
    for name in reversed(FLOORS):
        package = f"esr.{name}"
        below = FLOORS[: FLOORS.index(name)]
        used = {
            room(a.target) for a in arrows() if room(a.source) == name and not is_door(a.source)
        }
        is_all = f"all below ({len(below)})" if len(below) > 1 else ", ".join(below)
        uses = ", ".join(other for other in reversed(below) if other in used)
        lines.append(f"| `{name}` | {purpose(package)} | {is_all or '-'} | {uses or '-'} |")
    return "\n".join(lines)


def replaced(document: str, block: str, text: str) -> str:
    """The document with what stands between a block's two marks replaced."""
    marks = f"<!-- {block} -->", f"<!-- end of {block} -->"
    pattern = re.compile(f"({re.escape(marks[0])}\n).*?(\n{re.escape(marks[1])})", re.DOTALL)
    assert pattern.search(document), f"no marks of {block!r} in {DOCUMENT}"
    return pattern.sub(lambda match: match[1] + text + match[2], document)


def write_block(block: str, text: str) -> None:
    """Replace a block of docs/architecture.md."""
    DOCUMENT.write_text(replaced(DOCUMENT.read_text("utf-8"), block, text), encoding="utf-8")


def test_no_arrow_goes_up() -> None:
    assert [str(arrow) for arrow in arrows() if goes_up(arrow)] == []


def test_no_circle_among_the_modules_of_esr() -> None:
    assert circles(graph_of(arrows())) == []


def test_nothing_but_the_rooms_and_errors_stands_at_the_top() -> None:
    here = {p.stem for p in (ROOT / "esr").iterdir() if p.suffix == ".py" or any(p.glob("*.py"))}
    assert here - {"__init__"} == set(FLOORS)


def test_doors_are_imported_by_nobody_and_stay_small() -> None:
    doors = [name for name in modules() if is_door(name)]
    assert doors
    assert [str(arrow) for arrow in arrows() if is_door(arrow.target)] == []
    sizes = {name: statements(tree(name)) for name in doors}
    assert {name: n for name, n in sizes.items() if n > DOOR_STATEMENTS} == {}


def test_nobody_touches_the_module_search_path() -> None:
    touched = [
        f"{name} line {node.lineno}"
        for name in modules()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Attribute)
        and node.attr == "path"
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
    ]
    assert touched == []


def test_every_room_says_what_it_is_for() -> None:
    assert [name for name in FLOORS if not purpose(f"esr.{name}")] == []


def test_the_table_of_rooms_in_the_documentation_is_true() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == replaced(text, "rooms", rooms_table()), "run python -m tests.test_architecture"


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_files_named_in_the_documentation_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    words = [word for quoted in re.findall(r"`([^`\n]+)`", text) for word in quoted.split()]
    paths = [word for word in words if re.search(r"^[a-z]\w*/[\w/.*]*$|^[\w/*]+\.(py|md)$", word)]
    elsewhere = ("config.py", "run.py", "errors.py", "__main__.py")
    missing = [p for p in paths if p not in elsewhere and not any(ROOT.glob(p.rstrip("/")))]
    assert len(paths) > 10
    assert missing == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("esr.runs.seeds", "esr.steering.sae"),
        ("esr.judge.base", "esr.pipeline.trials"),
        ("esr.pipeline.trials", "experiment_01_esr.run"),
        ("esr.analysis.metrics", "esr"),
        ("experiment_02_multi_boost.run", "experiment_01_esr.run"),
        ("plotting.plot_exp1", "experiment_01_esr.run"),
        ("benchmarks.costs", "tests.scripted"),
    ],
)
def test_an_arrow_up_is_seen(source: str, target: str) -> None:
    assert goes_up(Arrow(source, target, 1))


def test_an_arrow_down_is_allowed() -> None:
    assert not goes_up(Arrow("esr.pipeline.trials", "esr.runs.seeds", 1))
    assert not goes_up(Arrow("esr.models.__main__", "esr.engine.memory", 1))
    assert not goes_up(Arrow("experiment_01_esr.run", "esr.pipeline.trials", 1))


def test_lazy_and_type_only_imports_count() -> None:
    source = (
        "if TYPE_CHECKING:\n    from esr.pipeline import context\n"
        "def late():\n    from ..judge.base import Judge\n    import esr.runs.seeds\n"
    )
    targets = [arrow.target for arrow in imports("esr.analysis.metrics", ast.parse(source))]
    assert sorted(targets) == ["esr.judge.base", "esr.pipeline.context", "esr.runs.seeds"]


def test_a_circle_is_seen() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
    assert circles(graph) == [["a", "b", "c"]]


if __name__ == "__main__":
    write_block("rooms", rooms_table())
