"""Short files, short functions, and a top level without surprises."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from architecture.sources import Source, is_prose, sources

MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 40
# "src/facegan/x.py" or "src/facegan/x.py:function" -> lines, with the reason beside it.
LONGER: dict[str, int] = {}

TOP_LEVEL = {
    *("pipelines", "src", "data.dvc", "dvc.yaml", "params.yaml", "tests", "infra"),
    *("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "Makefile"),
    *("requirements.lock", "dvc.lock", ".dvc", ".dvcignore", ".gitignore", ".ci"),
    *("artifacts", "docs"),
}


def sources_stay_short(root: Path, longer: Mapping[str, int] = LONGER) -> list[str]:
    return [
        f"{name}: {lines} lines of at most {most}; split it by what changes together"
        for source in sources(root)
        for name, lines, limit in _sizes(source)
        if lines > (most := longer.get(name, limit))
    ]


def _sizes(source: Source) -> Iterator[tuple[str, int, int]]:
    yield source.path, len(source.text.splitlines()), MAX_FILE_LINES
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstrings = sum(_lines(inner) for inner in ast.walk(node) if is_prose(inner))
            yield f"{source.path}:{node.name}", _lines(node) - docstrings, MAX_FUNCTION_LINES


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def names_say_what_they_hold(root: Path) -> list[str]:
    return [
        f"{source.path}: `utils` doesn't say what it holds; name it after that"
        for source in sources(root)
        if Path(source.path).stem == "utils"
    ]


def top_level_is_fixed(tracked: Iterable[str]) -> list[str]:
    """`tracked` is what `git ls-files` prints."""
    names = {path.split("/")[0] for path in tracked}
    return [f"{name}: not among the top level's fixed names" for name in sorted(names - TOP_LEVEL)]
