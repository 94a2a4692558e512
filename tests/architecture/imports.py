"""Who may import whom, who may import what, and what has to load late."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from architecture.sources import closure, is_import_call, literal_name, modules, target

# Top first. A module imports from its own layer and from those below. A name stands for the
# module or for the whole package; `__init__` is facegan/__init__.py, which every module loads.
LAYERS = (
    ("pipelines",),
    ("cli", "__main__"),
    ("tracking", "registry", "initial", "app", "progress", "summary"),
    (
        *("train", "loop", "trainer", "judge", "reference", "preprocess", "sources"),
        *("evaluate", "scores", "companions", "protocol", "figures"),
    ),
    (
        *("dataset", "sampling", "features", "frechet", "checkpoint", "losses", "augment"),
        *(
            "average",
            "device",
            "history",
            "stopping",
            "trainings",
            "noise",
            "precision",
            "distributed",
            "recorded",
        ),
        *("extraction", "kid", "neighbours"),
        *("packing", "decoding", "photographs", "archives", "idx", "duplicates", "pictures"),
        *("download", "published", "weights"),
    ),
    ("models",),
    ("s3", "inputs", "executors", "arrays", "params", "atomic", "errors", "events", "__init__"),
)

IMPORTERS = {
    "prefect": ("pipelines",),
    "dvc": ("pipelines",),
    "mlflow": ("facegan.tracking", "facegan.registry"),
    "typer": ("facegan.cli",),
    "yaml": ("facegan.params", "facegan.initial"),
    "boto3": ("facegan.s3", "infra"),
    "botocore": ("facegan.s3", "facegan.download", "infra"),
    "s3transfer": ("facegan.s3", "facegan.download"),
    "torchvision": ("facegan.published",),
    "gdown": ("facegan.published",),
    "distributed": ("facegan.executors",),
}

# They answer without a network; loading torch would take longer than all that they do.
TORCH_FREE = (
    "facegan",
    "facegan.__main__",
    "facegan.cli",
    "facegan.params",
    "facegan.preprocess",
    "facegan.sources",
)
HEAVY = ("torch", "mlflow", "prefect", "dvc", "pandas", "numpy")


def imports_go_one_way(root: Path) -> list[str]:
    known, found = modules(root), []
    for name, source in known.items():
        own = _layer(name)
        if name.split(".")[-1] == "utils":
            found.append(f"{source.path}: `utils` doesn't say what it holds; name it after that")
        elif own is None and not name.startswith("infra"):
            where = "LAYERS in tests/architecture/imports.py"
            found.append(f"{source.path}: in no layer; add it to {where}")
        for imported in source.imports:
            other = target(imported.name, known)
            depth = _layer(other)
            if own is not None and depth is not None and depth < own:
                found.append(f"{source.path}:{imported.line}: imports {other}, a higher layer")
    return found


def _layer(module: str) -> int | None:
    package, *rest = module.split(".")
    noun = (*rest, "__init__")[0] if package == "facegan" else package
    if package not in ("facegan", "pipelines"):
        return None
    return next((depth for depth, layer in enumerate(LAYERS) if noun in layer), None)


def imports_have_no_cycles(root: Path) -> list[str]:
    # That a package loads before its modules is no edge: Python itself sees to that order.
    known = modules(root)
    edges = {name: {target(i.name, known) for i in s.imports} for name, s in known.items()}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return ["import cycle: " + " -> ".join(reversed(error.args[1]))]
    return []


def imports_are_spelled_out(root: Path) -> list[str]:
    """No rule can follow an import by a computed name."""
    return [
        f"{source.path}:{node.lineno}: imports by a computed name; write the name out"
        for source in modules(root).values()
        for node in ast.walk(source.tree)
        if is_import_call(node) and not literal_name(node)
    ]


def only_named_modules_import(root: Path) -> list[str]:
    return [
        f"{source.path}:{imported.line}: imports {package}; only {' and '.join(owners)} may"
        for name, source in modules(root).items()
        for imported in source.imports
        if (owners := IMPORTERS.get(package := imported.name.split(".")[0]))
        and not any(f"{name}.".startswith(f"{owner}.") for owner in owners)
    ]


def torch_loads_when_needed(root: Path) -> list[str]:
    known = modules(root)
    return [
        f"{known[start].path}: loads {imported.name} at import ({known[name].path}:{imported.line})"
        for start in TORCH_FREE
        for name in sorted(closure(start, known, ("at import",)))
        for imported in known[name].imports
        if imported.when == "at import" and _is_torch(imported.name)
    ]


def _is_torch(name: str) -> bool:
    # torchvision and safetensors.torch load it too; facegan's own names don't.
    package, *rest = name.split(".")
    return package.startswith("torch") or ("torch" in rest and package != "facegan")


def import_stays_light(root: Path) -> list[str]:
    """The one rule that imports, in a process of its own: third parties bring things along."""
    code = (
        "import importlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "for name in ('facegan', 'facegan.cli'):\n"
        "    importlib.import_module(name)\n"
        "    for heavy in sys.argv[2:]:\n"
        "        if heavy in sys.modules: print(f'import {name} loads {heavy}')\n"
    )
    command = [sys.executable, "-c", code, str(root / "src"), *HEAVY]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() + (done.stderr.splitlines()[-1:] if done.returncode else [])
