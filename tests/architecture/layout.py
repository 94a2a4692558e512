"""Short files, short functions, specific names and a fixed top level."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from architecture.sources import Source, is_prose, sources

MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 40
# Exceptions: "src/facegan/x.py" or "src/facegan/x.py:function" -> lines, with the reason.
EXCEPTIONS: dict[str, int] = {}

TOP_LEVEL = {
    *("pipelines", "src", "data.dvc", "dvc.yaml", "params.yaml", "tests", "infra"),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"),
    *("requirements.lock", "dvc.lock", ".dvc", ".dvcignore", ".gitignore", ".ci"),
    *("artifacts", "docs"),
}


def sources_stay_short(root: Path, exceptions: Mapping[str, int] = EXCEPTIONS) -> list[str]:
    return [
        f"{name}: {lines} lines, more than {maximum}; split it by what changes together"
        for source in sources(root)
        for name, lines, limit in _sizes(source)
        if lines > (maximum := exceptions.get(name, limit))
    ]


def _sizes(source: Source) -> Iterator[tuple[str, int, int]]:
    yield source.path, len(source.text.splitlines()), MAX_FILE_LINES
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstrings = sum(_lines(inner) for inner in ast.walk(node) if is_prose(inner))
            yield f"{source.path}:{node.name}", _lines(node) - docstrings, MAX_FUNCTION_LINES


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def names_are_specific(root: Path) -> list[str]:
    return [
        f"{source.path}: `utils` is not specific; name the module after its content"
        for source in sources(root)
        if Path(source.path).stem == "utils"
    ]


def top_level_is_fixed(tracked: Iterable[str]) -> list[str]:
    """Check `tracked`, the paths that `git ls-files` prints."""
    names = {path.split("/")[0] for path in tracked}
    return [
        f"{name}: not one of the fixed names of the top level" for name in sorted(names - TOP_LEVEL)
    ]
