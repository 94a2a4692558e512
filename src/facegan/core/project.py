"""Where the project is: `dvc exp run --temp` and `--queue` run stages in a temporary copy of it.

DVC deletes the copy when the experiment ends. What outlives an experiment, such as checkpoints and
MLflow's store, belongs into the project itself.
"""

import os
from pathlib import Path


def project_root() -> Path:
    """The absolute path of the project: the nearest folder with a `dvc.yaml`, upwards from here.

    The current folder if there is none. The original project if called in a temporary copy.
    """
    here = in_project(Path())
    return _nearest("dvc.yaml", here) or here


def in_project(path: Path) -> Path:
    """The absolute path that `path` has in the original project.

    That is `path` below the current folder, except in the temporary copy of an experiment.

    >>> in_project(Path("checkpoints"))  # in /project/.dvc/tmp/exps/tmp4sx0c2
    PosixPath('/project/checkpoints')
    """
    here = Path.cwd()
    # DVC sets both for the stages of an experiment; the root is that of the original project.
    if "DVC_EXP_NAME" in os.environ and (root := os.environ.get("DVC_ROOT")):
        here = Path(root, here.relative_to(_nearest(".dvc", here) or here))
    return Path(os.path.normpath(here / path))


def _nearest(entry: str, folder: Path) -> Path | None:
    """The nearest folder that has such an entry: `folder` or one above it."""
    return next((f for f in (folder, *folder.parents) if (f / entry).exists()), None)
