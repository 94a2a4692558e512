"""Modules that must not be imported at start."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# `facegan --help` and the validation of a command's inputs must be fast. Importing torch or MLflow
# takes longer than everything that these modules do.
LIGHT = {
    "facegan": ("numpy", "torch", "mlflow", "prefect", "dvc", "pandas"),
    "facegan.cli.main": ("numpy", "torch", "mlflow", "prefect", "dvc", "pandas"),
    "facegan.params": ("torch", "mlflow"),
    "facegan.fetch.stage": ("torch", "mlflow"),
    "facegan.preprocess.stage": ("torch", "mlflow"),
}


def import_stays_light(root: Path, light: Mapping[str, tuple[str, ...]] = LIGHT) -> list[str]:
    """Import each module in its own process, because third parties import modules too."""
    code = (
        "import importlib, sys\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "importlib.import_module(sys.argv[2])\n"
        "for heavy in sys.argv[3:]:\n"
        "    if heavy in sys.modules: print(f'import {sys.argv[2]} loads {heavy}')\n"
    )
    found = []
    for module, heavy in light.items():
        command = [sys.executable, "-c", code, str(root / "src"), module, *heavy]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        found += done.stdout.splitlines()
        found += done.stderr.splitlines()[-1:] if done.returncode else []
    return found
