"""dvc.yaml says truly what depends on what, and nothing else says where things lie."""

import ast
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from architecture.sources import closure, is_prose, modules

# `register` is the verb, `registry` the place; every other stage has the name of its module.
MODULE_OF_STAGE = {"register": "registry"}
# DVC tracks the values that params.py reads, and cli.py holds no logic.
OUTSIDE_CLOSURES = ("facegan.params", "facegan.cli")
# What a command prints as its help may name a path as an example.
HELP_ARGUMENTS = ("help", "short_help", "epilog", "metavar")


def _stages(root: Path) -> dict[str, Any]:
    stages: dict[str, Any] = _parsed((root / "dvc.yaml").read_text("utf-8"))["stages"]
    return stages


@cache
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


def _paths(stage: Mapping[str, Any], *keys: str) -> list[PurePosixPath]:
    entries = [entry for key in keys for entry in stage.get(key, [])]
    # An entry is a path or {path: options}.
    return [PurePosixPath(e if isinstance(e, str) else next(iter(e))) for e in entries]


def _is_code(path: PurePosixPath) -> bool:
    return path.parts[0] == "src"


def stages_list_their_code(root: Path) -> list[str]:
    """With a dep too few DVC serves a stale output; with one too many it computes in vain."""
    known, found = modules(root), []
    for name, stage in _stages(root).items():
        step = f"facegan.{MODULE_OF_STAGE.get(name, name)}"
        if step not in known:
            found.append(f"dvc.yaml: {name}: there is no module {step}")
            continue
        reached = closure(step, known, ("at import", "in a call")).difference(OUTSIDE_CLOSURES)
        wanted = {known[module].path for module in reached if not known[module].is_empty_package}
        listed = {str(path) for path in _paths(stage, "deps") if _is_code(path)}
        found += [f"dvc.yaml: {name}: {p} is missing in deps" for p in sorted(wanted - listed)]
        found += [f"dvc.yaml: {name}: {p} isn't imported" for p in sorted(listed - wanted)]
    return found


def stages_pass_their_paths(root: Path) -> list[str]:
    found = []
    for name, stage in _stages(root).items():
        words = shlex.split(stage["cmd"]) if isinstance(stage["cmd"], str) else []
        if words[:2] != ["facegan", name]:
            found.append(f"dvc.yaml: {name}: cmd has to be one line, `facegan {name} ...`")
            continue
        arguments = [PurePosixPath(word) for word in words[2:]]
        declared = [p for p in _paths(stage, "deps", "outs", "metrics", "plots") if not _is_code(p)]
        found += [
            f"dvc.yaml: {name}: {path} is under no argument of cmd"
            for path in declared
            if not any(path.is_relative_to(argument) for argument in arguments)
        ]
        # The other way round: read or written without DVC's knowledge.
        found += [
            f"dvc.yaml: {name}: {argument} is an argument of cmd, but neither dep nor out"
            for argument in arguments
            if argument.parts[0] in ("artifacts", "data")
            and not any(argument.is_relative_to(p) or p.is_relative_to(argument) for p in declared)
        ]
    return found


def stages_read_whole_sections(root: Path) -> list[str]:
    sections = _parsed((root / "params.yaml").read_text("utf-8"))
    return [
        f"dvc.yaml: {name}: params: {entry} is no section of params.yaml"
        for name, stage in _stages(root).items()
        for entry in stage.get("params", [])
        if not isinstance(entry, str) or entry not in sections
    ]


def paths_stand_in_dvc_yaml(root: Path) -> list[str]:
    return [
        f"{source.path}:{node.lineno}: {node.value!r} has to come from dvc.yaml as an argument"
        for source in modules(root).values()
        if source.path.startswith("src/")
        for prose in [_prose(source.tree)]
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if f"{node.value}/".startswith("artifacts/") and node not in prose
    ]


def _prose(tree: ast.Module) -> set[ast.AST]:
    """Docstrings and help, in which a path is an example and not a place."""
    return {
        part
        for node in ast.walk(tree)
        if is_prose(node) or (isinstance(node, ast.keyword) and node.arg in HELP_ARGUMENTS)
        for part in ast.walk(node)
    }
