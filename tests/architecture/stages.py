"""dvc.yaml lists the actual dependencies, and is the only file with paths."""

import ast
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from architecture.sources import is_prose, sources

# DVC tracks the values that params.py reads, and cli/ has no logic.
OUTSIDE_CLOSURES = ("params", "cli")
# In its own process, because grimp finds `facegan` on the path, and here it is already imported.
CLOSURES = """
import grimp, json, sys
graph = grimp.build_graph("facegan", exclude_type_checking_imports=True, cache_dir=None)
steps = [f"facegan.{name}.stage" for name in sys.argv[1:]]
found = {s: {s} | graph.find_upstream_modules(s) for s in steps if s in graph.modules}
print(json.dumps({step: sorted(modules) for step, modules in found.items()}))
"""
# More deps of a stage suggest that its step does two things.
MAX_DEPS = 10
# Help texts may have paths as examples.
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


def _closures(root: Path, stages: Iterable[str]) -> dict[str, list[str]]:
    """Return the modules that each step's `stage.py` imports, itself included."""
    command = [sys.executable, "-c", CLOSURES, *stages]
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    closures: dict[str, list[str]] = json.loads(done.stdout)
    return closures


def stages_list_their_code(root: Path) -> list[str]:
    """A missing dep gives stale outputs; a superfluous one, unnecessary runs."""
    found, closures = [], _closures(root, _stages(root))
    for name, stage in _stages(root).items():
        reached = closures.get(f"facegan.{name}.stage")
        if reached is None:
            found.append(f"dvc.yaml: {name}: module facegan.{name}.stage not found")
            continue
        packages = {module.split(".")[1] for module in reached if "." in module}
        expected = {f"src/facegan/{package}" for package in packages.difference(OUTSIDE_CLOSURES)}
        listed = {str(path) for path in _paths(stage, "deps") if _is_code(path)}
        found += [f"dvc.yaml: {name}: {p} is missing in deps" for p in sorted(expected - listed)]
        found += [f"dvc.yaml: {name}: {p} is not imported" for p in sorted(listed - expected)]
        if len(stage["deps"]) > MAX_DEPS:
            found.append(f"dvc.yaml: {name}: {len(stage['deps'])} deps, more than {MAX_DEPS}")
    return found


def stages_pass_their_paths(root: Path) -> list[str]:
    found = []
    for name, stage in _stages(root).items():
        words = shlex.split(stage["cmd"]) if isinstance(stage["cmd"], str) else []
        if words[:2] != ["facegan", name]:
            found.append(f"dvc.yaml: {name}: cmd must be one line, `facegan {name} ...`")
            continue
        arguments = [PurePosixPath(word) for word in words[2:]]
        declared = [p for p in _paths(stage, "deps", "outs", "metrics", "plots") if not _is_code(p)]
        found += [
            f"dvc.yaml: {name}: {path} is not below an argument of cmd"
            for path in declared
            if not any(path.is_relative_to(argument) for argument in arguments)
        ]
        # The reverse: paths that DVC does not track.
        found += [
            f"dvc.yaml: {name}: {argument} is an argument of cmd, but not a dep or an out"
            for argument in arguments
            if argument.parts[0] in ("artifacts", "data")
            and not any(argument.is_relative_to(p) or p.is_relative_to(argument) for p in declared)
        ]
    return found


def stages_read_whole_sections(root: Path) -> list[str]:
    sections = _parsed((root / "params.yaml").read_text("utf-8"))
    return [
        f"dvc.yaml: {name}: params: {entry} is not a section of params.yaml"
        for name, stage in _stages(root).items()
        for entry in stage.get("params", [])
        if not isinstance(entry, str) or entry not in sections
    ]


def paths_are_in_dvc_yaml(root: Path) -> list[str]:
    return [
        f"{source.path}:{node.lineno}: {node.value!r} must come from dvc.yaml as an argument"
        for source in sources(root)
        if source.path.startswith("src/")
        for prose in [_prose(source.tree)]
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if f"{node.value}/".startswith("artifacts/") and node not in prose
    ]


def _prose(tree: ast.Module) -> set[ast.AST]:
    """Docstrings and help texts, in which paths are examples."""
    return {
        part
        for node in ast.walk(tree)
        if is_prose(node) or (isinstance(node, ast.keyword) and node.arg in HELP_ARGUMENTS)
        for part in ast.walk(node)
    }
