"""Python sources as syntax trees."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeGuard


@dataclass(frozen=True)
class Source:
    path: str  # relative to the root, with slashes
    text: str
    tree: ast.Module


@cache
def sources(root: Path) -> list[Source]:
    """All Python files of src/, pipelines/ and infra/."""
    paths = [
        path for folder in ("src", "pipelines", "infra") for path in (root / folder).rglob("*.py")
    ]
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(paths)}
    return [Source(path, text, ast.parse(text, path)) for path, text in texts.items()]


def is_prose(node: ast.AST) -> TypeGuard[ast.Expr]:
    """Return whether the node is a string without effect: a docstring or a comment."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False
