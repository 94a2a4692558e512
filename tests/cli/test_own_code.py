import os
import subprocess
import sys
from pathlib import Path

import pytest

from samples import fill

MAIN = b"import sys; print('own code:', *sys.argv[1:])"


@pytest.mark.parametrize(
    ("variables", "output"),
    [({"DVC_STAGE": "train"}, "own code: preset digits"), ({}, "params.yaml: preset digits")],
)
def test_a_stage_runs_the_code_of_its_project(
    variables: dict[str, str], output: str, tmp_path: Path
) -> None:
    fill(tmp_path, {"src/facegan/__init__.py": b"", "src/facegan/__main__.py": MAIN})
    command = [str(Path(sys.executable).with_name("facegan")), "preset", "digits"]
    environment = {k: v for k, v in os.environ.items() if k != "DVC_STAGE"} | variables
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == output
