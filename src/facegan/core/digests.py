"""Digests of files, code and JSON values."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from facegan.core.errors import FaceganError


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal.

    Raises:
        FaceganError: if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FaceganError(f"{path}: cannot be read ({error.strerror})") from None


def code_sha256(folders: Iterable[Path]) -> str:
    """One digest of the Python files in `folders`, without subfolders, as syntax trees.

    Comments, docstrings and formatting are ignored, so that editing them abandons no checkpoint.
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
    """The first 16 hexadecimal digits of the sha256 of `parts`, plain JSON values."""
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
