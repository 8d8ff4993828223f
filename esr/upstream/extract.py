"""Text out of Python source, by reading its syntax tree. Nothing is executed."""

from __future__ import annotations

import ast

from esr.errors import UserError


def assigned_text(source: str, name: str, path: str) -> str:
    """The text assigned to a name of a module; an f-string's expressions stay in it, in braces.

    Raises:
        UserError: the file at ``path`` has another shape.
    """
    for node in _parse(source, path).body:
        value = _assigned(node, name)
        text = _string(value) if value is not None else None
        if text is not None:
            return text
    raise _unexpected(path, f"no text {name}")


def returned_pairs(source: str, function: str, path: str) -> list[tuple[str, str]]:
    """The list of (text, text) that a function of a module returns as a literal.

    Raises:
        UserError: the file at ``path`` has another shape.
    """
    for definition in _parse(source, path).body:
        if isinstance(definition, ast.FunctionDef) and definition.name == function:
            for node in ast.walk(definition):
                value = node.value if isinstance(node, ast.Return) else None
                if isinstance(value, ast.List | ast.Tuple):
                    pairs = [_pair(item) for item in value.elts]
                    texts = [pair for pair in pairs if pair is not None]
                    if texts and len(texts) == len(pairs):
                        return texts
    raise _unexpected(path, f"{function} returns no list of pairs")


def _parse(source: str, path: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise _unexpected(path, str(error)) from error


def _assigned(node: ast.AST, name: str) -> ast.expr | None:
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    else:
        return None
    named = any(isinstance(target, ast.Name) and target.id == name for target in targets)
    return node.value if named else None


def _pair(node: ast.expr) -> tuple[str, str] | None:
    if isinstance(node, ast.Tuple | ast.List) and len(node.elts) == 2:
        first, second = (_string(item) for item in node.elts)
        if first is not None and second is not None:
            return first, second
    return None


def _string(node: ast.expr) -> str | None:
    """Text of a string literal, an f-string, or literals added up; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_piece(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _string(node.left), _string(node.right)
        return left + right if left is not None and right is not None else None
    return None


def _piece(node: ast.expr) -> str:
    if isinstance(node, ast.FormattedValue):
        return "{" + ast.unparse(node.value) + "}"
    return _string(node) or ""


def _unexpected(path: str, problem: str) -> UserError:
    return UserError(f"{path} is not of the expected shape: {problem}", "", "report this")
