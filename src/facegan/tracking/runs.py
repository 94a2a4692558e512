"""MLflow runs, mirrored from `history.jsonl`. A run lags while the server is unreachable."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from PIL import Image

from facegan.core.errors import FaceganError
from facegan.core.events import Event, Message, OnEvent, Scored
from facegan.core.history import NAME, read_history
from facegan.tracking.connection import connect, translate_errors

FINGERPRINT = "facegan.fingerprint"
MIRRORED = "facegan.mirrored"  # number of lines of the history that the run has
COLLAPSED = "facegan.collapsed"  # the last collapse of the training
COMPARABILITY_NOTE = "facegan.comparability_note"
# MLflow's limit for one request.
MAX_METRICS = 1000


def mirror(client: MlflowClient, folder: Path, experiment: str) -> Run:
    """Update the MLflow run of the training in `folder` from its history, and return it.

    The run is found by the training's fingerprint, and created if there is none. The step of each
    metric is the number of images seen.

    Args:
        folder: contains `history.jsonl` and the sample pictures.
        experiment: MLflow's experiment, created if missing.
    Raises:
        FaceganError: if the history is missing or damaged. MLflow's own exceptions pass through.
    """
    events = read_history(folder / NAME)
    start = events[0]
    run = _find_run(client, start, experiment)
    mirrored = int(run.data.tags.get(MIRRORED, "0"))
    timestamp = int(time.time() * 1000)
    metrics, quick = list[Metric](), ""
    for number, event in enumerate(events):
        if event["event"] in ("start", "resume"):
            quick = event.get("quick_fid", quick)
        if number < mirrored:
            continue
        for name, value in _metrics(event, quick).items():
            metrics.append(Metric(name, value, timestamp, event["images_seen"]))
        if event["event"] == "collapse":
            text = f"at {event['images_seen']:,} images seen: {event['reason']}"
            client.set_tag(run.info.run_id, COLLAPSED, text)
        if "picture" in event:
            with Image.open(folder / event["picture"]) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            client.log_image(run.info.run_id, pixels, key="samples", step=event["images_seen"])
    for first in range(0, len(metrics), MAX_METRICS):
        client.log_batch(run.info.run_id, metrics=metrics[first : first + MAX_METRICS])
    client.set_tag(run.info.run_id, MIRRORED, len(events))
    return run


def _metrics(event: dict[str, Any], quick: str) -> dict[str, float]:
    match event["event"]:
        case "losses":
            losses = {f"loss/{name}": event[name] for name in ("discriminator", "generator")}
            return {**losses, "accuracy": event["accuracy"]}
        case "samples":
            return {"diversity": event["diversity"]}
        case "score":
            return {quick: event["quick_fid"]}
        case _:
            return {}


def _find_run(client: MlflowClient, start: dict[str, Any], experiment: str) -> Run:
    existing = client.get_experiment_by_name(experiment)
    experiment_id = existing.experiment_id if existing else client.create_experiment(experiment)
    filter_string = f"tags.`{FINGERPRINT}` = '{start['fingerprint']}'"
    runs = client.search_runs([experiment_id], filter_string, max_results=1)
    if runs:
        return runs[0]
    tags = {FINGERPRINT: start["fingerprint"], "facegan.data": start["data"]}
    name = f"train-{start['fingerprint'][:6]}"
    run = client.create_run(experiment_id, tags=tags, run_name=name)
    params = {"images": start["images"], "shape": start["shape"], "seed": start["seed"]}
    params |= {f"train.{name}": value for name, value in start["train"].items()}
    client.log_batch(run.info.run_id, params=[Param(k, str(v)) for k, v in params.items()])
    return run


class Mirror:
    """Forwards a training's events, and mirrors its history to MLflow at each score.

    If the server cannot be reached, it reports one message and stops mirroring. The history is
    complete, and `register` mirrors it later. At the end the run is FINISHED, or KILLED after an
    exception.
    """

    def __init__(self, experiment: str, on_event: OnEvent) -> None:
        self.experiment, self.on_event = experiment, on_event
        self.client: MlflowClient | None = None
        self.run_id: str | None = None
        self.has_failed = False

    def __enter__(self) -> Self:
        return self

    def __call__(self, event: Event) -> None:
        self.on_event(event)
        if isinstance(event, Scored) and not self.has_failed:
            with self._tolerant():
                self._mirror(event)

    def _mirror(self, event: Scored) -> None:
        # Connects at the first score, because only one of several processes has scores.
        client = self.client = self.client or connect()
        run = mirror(client, event.folder, self.experiment)
        if self.run_id is None:
            self.run_id = run.info.run_id
            client.update_run(self.run_id, status="RUNNING")
        if (speed := event.images_per_second) > 0:
            client.log_metric(self.run_id, "images_per_second", speed, step=event.images_seen)

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            with translate_errors():
                yield
        except FaceganError as error:
            self.client, self.has_failed = None, True
            later = "`facegan register` logs the missing metrics later"
            text = f"{error}; training continues, and {later}"
            self.on_event(Message(text))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.client is not None and self.run_id is not None:
            with self._tolerant():
                self.client.set_terminated(self.run_id, "KILLED" if kind else "FINISHED")


def log_scores(client: MlflowClient, run: Run, scores: dict[str, Any]) -> None:
    """Log the official scores of `metrics.json` as metrics whose names state the protocol."""
    name, step = scores["protocol"]["name"], scores["images_seen"]
    # Other keys of `scores` do not contain the label.
    label = name.partition("_")[2]
    metrics = {key: value for key, value in scores.items() if label in key}
    metrics |= {f"{name}_{key}": scores[key] for key in ("untrained", "floor")}
    for key, value in metrics.items():
        if run.data.metrics.get(key) != value:
            client.log_metric(run.info.run_id, key, value, step=step)
    if note := scores["protocol"]["comparability_note"]:
        client.set_tag(run.info.run_id, COMPARABILITY_NOTE, f"{label}: {note}")
