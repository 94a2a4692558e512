"""Python sources as syntax trees: what each imports, when, and all that it reaches."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Literal, TypeGuard

When = Literal["at import", "in a call", "never"]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True)
class Import:
    """One imported name and when it loads.

    What stands under `if TYPE_CHECKING:` never loads. It can't change what a stage computes nor
    slow a start, so closures and load times leave it out. It still is knowledge of that module,
    so layers, cycles and the list of importers count it.
    """

    name: str
    line: int
    when: When


@dataclass(frozen=True)
class Source:
    path: str  # from the root, with slashes
    text: str
    tree: ast.Module
    imports: tuple[Import, ...]

    @property
    def is_empty_package(self) -> bool:
        return self.path.endswith("/__init__.py") and all(map(is_prose, self.tree.body))


@cache
def modules(root: Path) -> dict[str, Source]:
    """Every source of src/, pipelines/ and infra/ by its dotted name."""
    found = {}
    for base, folder in ((root / "src", "."), (root, "pipelines"), (root, "infra")):
        for path in sorted((base / folder).rglob("*.py")):
            *package, stem = path.relative_to(base).with_suffix("").parts
            name = ".".join(package if stem == "__init__" else (*package, stem))
            relative = path.relative_to(root).as_posix()
            found[name] = _source(relative, path.read_text("utf-8"), tuple(package))
    return found


@cache
def _source(path: str, text: str, package: tuple[str, ...]) -> Source:
    tree = ast.parse(text, path)
    return Source(path, text, tree, tuple(_imports(tree, package, "at import")))


def _imports(node: ast.AST, package: tuple[str, ...], when: When) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        for name in _imported_names(child, package):
            yield Import(name, getattr(child, "lineno", 0), when)
        if isinstance(child, ast.If) and _asks_for_types(child.test):
            yield from _imports(ast.Module(child.body, []), package, "never")
            yield from _imports(ast.Module(child.orelse, []), package, when)
        else:
            lazy = isinstance(child, FUNCTIONS) and when == "at import"
            yield from _imports(child, package, "in a call" if lazy else when)


def _asks_for_types(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _imported_names(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package[: len(package) + 1 - node.level] if node.level else ()
        base = ".".join((*above, node.module) if node.module else above)
        # The last part may be a module, a name in one or a star: `target` tells.
        return [f"{base}.{alias.name}" for alias in node.names]
    if is_import_call(node) and (name := literal_name(node)):
        return [name]
    return []


def is_import_call(node: ast.AST) -> TypeGuard[ast.Call]:
    called = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
    return called in ("import_module", "__import__")


def literal_name(call: ast.Call) -> str:
    """The module that `import_module("facegan.train")` names, or "" where it is computed."""
    match call.args:
        case [ast.Constant(value=str(name)), *_] if not name.startswith("."):
            return name
    return ""


def is_prose(node: ast.AST) -> TypeGuard[ast.Expr]:
    """A string that stands alone does nothing: a docstring, or a comment in that form."""
    match node:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
    return False


def target(name: str, known: Mapping[str, Source]) -> str:
    """The module that holds `name`, or the top-level package where it isn't ours."""
    while name not in known and "." in name:
        name = name.rpartition(".")[0]
    return name


def closure(start: str, known: Mapping[str, Source], when: tuple[When, ...]) -> set[str]:
    """`start`, all of ours that it imports in turn, and the packages that load before those."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in known and name not in reached:
            reached.add(name)
            waiting += [target(i.name, known) for i in known[name].imports if i.when in when]
            waiting += accumulate(name.split(".")[:-1], "{}.{}".format)
    return reached
