"""Sample grids as MLflow's UI shows them, with a slider over the steps."""

import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.tracking.multimedia import compress_image_size
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_IMAGES
from PIL import Image

from facegan.tracking.connection import insist

FOLDER, KEY = "images", "samples"
_STEP = re.compile(re.escape(f"{FOLDER}/{KEY}+step+") + r"(\d+)\+")
NAMESPACE = uuid.UUID("5f7e2f3e-0f4d-4d0c-9a5c-6d8f2b1c7a10")


def log_missing(
    client: MlflowClient,
    run: Run,
    pictures: Mapping[int, Path],
    known: set[str],
    tell: Callable[[], object],
) -> None:
    """Log the pictures that the run lacks.

    MLflow's own `log_image` gives each file a random name, so that a repeated upload is another
    image. Here, a step has one name.

    Args:
        pictures: by step; a missing file is skipped.
        known: names of the run's files, updated.
    """
    run_id = run.info.run_id
    if pictures and not known:
        known |= {Path(a.path).name for a in client.list_artifacts(run_id, FOLDER)}
    complete = _steps(known, ".png") & _steps(known, ".webp")
    for step, path in pictures.items():
        if step in complete or not path.exists():
            continue
        names = _names(run, step)
        with TemporaryDirectory() as folder, Image.open(path) as picture:
            pixels = picture.convert("RGB")
            pixels.save(Path(folder, names[0]))
            compress_image_size(pixels).save(Path(folder, names[1]))
            client.log_artifacts(run_id, folder, FOLDER)
        known.update(names)
        tell()
    if pictures and MLFLOW_LOGGED_IMAGES not in run.data.tags:
        insist(client.set_tag, run_id, MLFLOW_LOGGED_IMAGES, "True")


def download(client: MlflowClient, run_id: str, folder: Path) -> list[Path]:
    """Download the pictures of a run, in order of their steps."""
    found = [a.path for a in client.list_artifacts(run_id, FOLDER) if a.path.endswith(".png")]
    chosen = {int(step[0]): path for path in found if (step := _STEP.findall(path))}
    return [
        Path(client.download_artifacts(run_id, path, str(folder)))
        for _, path in sorted(chosen.items())
    ]


def _names(run: Run, step: int) -> tuple[str, str]:
    """The PNG and the small WebP, named as the UI expects."""
    identifier = uuid.uuid5(NAMESPACE, f"{run.info.run_id} {step}")
    stem = f"{KEY}+step+{step}+timestamp+{run.info.start_time}+{identifier}"
    return f"{stem}.png", f"{stem}+compressed.webp"


def _steps(names: set[str], suffix: str) -> set[int]:
    start = f"{KEY}+step+"
    return {int(n.split("+")[2]) for n in names if n.startswith(start) and n.endswith(suffix)}
