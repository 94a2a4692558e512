"""A stage runs the code that `dvc.yaml` says it depends on."""

import os
import sys
from pathlib import Path


def run_code_of_stage() -> None:
    """In a DVC stage, restart with the project's `src/` if another checkout's is running.

    The environment has the checkout installed that it was made in. That is another one in the
    temporary copy of a queued experiment, and in a git worktree that shares the environment.
    """
    code = Path("src", "facegan")
    if "DVC_STAGE" not in os.environ or not code.is_dir():
        return
    if not code.samefile(Path(__file__).parents[1]):
        paths = (str(code.parent.absolute()), os.environ.get("PYTHONPATH", ""))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        os.execv(sys.executable, [sys.executable, "-m", "facegan", *sys.argv[1:]])
