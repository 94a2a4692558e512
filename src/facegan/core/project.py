"""Where the project is: `dvc exp run --temp` and `--queue` run stages in a temporary copy of it.

DVC deletes the copy when the experiment ends. What outlives an experiment, such as checkpoints and
MLflow's store, belongs into the project itself.
"""

import os
import re
import shlex
from pathlib import Path

from facegan.core.errors import FaceganError


def project_root() -> Path:
    """The absolute path of the project: the nearest folder with a `dvc.yaml`, upwards from here.

    The current folder if there is none. The original project if called in a temporary copy.
    """
    here = in_project(Path()).absolute()
    return _nearest("dvc.yaml", here) or here


def in_project(path: Path) -> Path:
    """`path`; in the temporary copy of an experiment, its absolute path in the original project.

    >>> in_project(Path("checkpoints"))  # in /project/.dvc/tmp/exps/tmp4sx0c2
    PosixPath('/project/checkpoints')
    """
    # DVC sets both for the stages of an experiment; the root is that of the original project.
    root = os.environ.get("DVC_ROOT")
    if root is None or "DVC_EXP_NAME" not in os.environ:
        return path
    here = Path.cwd()
    copied = here.relative_to(_nearest(".dvc", here) or here)
    return Path(os.path.normpath(Path(root, copied) / path))


def stage_arguments(stage: str) -> list[str]:
    """The arguments of a stage's command in `dvc.yaml`, with paths relative to here.

    >>> stage_arguments("preprocess")
    ['data', 'artifacts/dataset']

    Raises:
        FaceganError: if there is no such file, or no such command in it.
    """
    path = project_root() / "dvc.yaml"
    try:
        found = re.search(rf"^ +cmd: facegan {stage} (.+)$", path.read_text("utf-8"), re.M)
    except FileNotFoundError:
        found = None
    if found is None:
        raise FaceganError(
            f"{path}: no command of the stage {stage}; run in a project, or name the file by option"
        )
    return [os.path.relpath(path.parent / word) for word in shlex.split(found[1])]


def _nearest(entry: str, folder: Path) -> Path | None:
    """The nearest folder that has such an entry: `folder` or one above it."""
    return next((f for f in (folder, *folder.parents) if (f / entry).exists()), None)
