"""Identities: digests of files, of code and of plain values."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from facegan.core.errors import FaceganError


def file_sha256(path: Path) -> str:
    """
    Raises:
        FaceganError: if there is no such file.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None


def code_sha256(folders: Iterable[Path]) -> str:
    """One digest of the Python files in `folders`, subfolders excluded, as syntax trees.

    Comments, docstrings and layout don't count, so that an edit of these abandons no checkpoint.
    """
    digest = hashlib.sha256()
    for folder in sorted(folders):
        for path in sorted(folder.glob("*.py")):
            tree = _without_docstrings(ast.parse(path.read_text("utf-8")))
            digest.update(f"{folder.name}/{path.name}\n{ast.dump(tree)}\n".encode())
    return digest.hexdigest()


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        match node:
            case (
                ast.Module(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.ClassDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.FunctionDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
                | ast.AsyncFunctionDef(body=[ast.Expr(value=ast.Constant(value=str())), *rest])
            ):
                node.body = rest
    return tree


def fingerprint(parts: dict[str, Any]) -> str:
    """The identity of what `parts`, plain JSON values, describe: 16 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
