"""Histories of trainings that never ran, and what MLflow has of them."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from PIL import Image

import conftest

QUICK = "quick_fid40_efficientnet-lite0-32"
START = {
    **conftest.START,
    "fingerprint": "f00d",
    "data": "beefbeefbeef",
    "images": 540,
    "shape": [32, 32, 1],
    "quick_fid": QUICK,
    "train": {"lr": 0.0002, "epochs": 2, "latent_dim": 100},
}

# What `metrics.json` has, in short.
SCORES: dict[str, Any] = {
    "fid50k_inception": 50.0,
    "untrained": 9.0,
    "floor": 3.0,
    "images_seen": 40,
    "protocol": {"name": "fid50k_inception", "comparability_note": ""},
}


def losses(seen: int) -> dict[str, Any]:
    values = {"discriminator": 1.0, "generator": seen / 10, "accuracy": 0.5}
    return {"event": "losses", "images_seen": seen, **values}


def samples(seen: int) -> dict[str, Any]:
    picture = f"samples/{seen:010d}.png"
    return {"event": "samples", "images_seen": seen, "picture": picture, "diversity": 0.9}


def score(seen: int) -> dict[str, Any]:
    return {"event": "score", "images_seen": seen, "quick_fid": 99.5 - seen}


def interval(seen: int) -> list[dict[str, Any]]:
    """What a training records from one score to the next, 20 images later."""
    return [losses(seen - 10), losses(seen), samples(seen), score(seen)]


def write(folder: Path, *events: dict[str, Any], **start: Any) -> Path:
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for event in events:
        if "picture" in event:
            Image.new("L", (8, 8)).save(folder / event["picture"])
    lines = "".join(json.dumps(event) + "\n" for event in ({**START, **start}, *events))
    (folder / "history.jsonl").write_text(lines)
    return folder


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Hold the lock of a training that runs."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def points(client: MlflowClient, run_id: str) -> dict[str, list[tuple[int, float]]]:
    """All points of a run, those of the machine's load apart."""
    keys = client.get_run(run_id).data.metrics
    return {
        key: [(m.step, m.value) for m in client.get_metric_history(run_id, key)]
        for key in keys
        if not key.startswith("system/")
    }


def grids(client: MlflowClient, run_id: str) -> list[tuple[int, str]]:
    """Steps and suffixes of a run's images."""
    names = [Path(artifact.path).name for artifact in client.list_artifacts(run_id, "images")]
    return sorted((int(name.split("+")[2]), Path(name).suffix) for name in names)
