"""What has to load late."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

# `facegan --help` and the checks of a command's inputs answer at once. Loading torch or MLflow
# would take longer than all that these modules do.
LIGHT = {
    "facegan": ("numpy", "torch", "mlflow", "prefect", "dvc", "pandas"),
    "facegan.cli.main": ("numpy", "torch", "mlflow", "prefect", "dvc", "pandas"),
    "facegan.params": ("torch", "mlflow"),
    "facegan.fetch.stage": ("torch", "mlflow"),
    "facegan.preprocess.stage": ("torch", "mlflow"),
}


def import_stays_light(root: Path, light: Mapping[str, tuple[str, ...]] = LIGHT) -> list[str]:
    """Imports in processes of their own, because third parties bring things along."""
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
