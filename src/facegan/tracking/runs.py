"""MLflow runs, mirrored from `history.jsonl`. A run lags while the server is unreachable.

Mirroring again adds only what a run lacks, so that neither an outage nor a second training of the
same fingerprint doubles a point.
"""

import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Dataset, DatasetInput, InputTag, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from facegan.core.errors import FaceganError
from facegan.core.history import NAME, read_history
from facegan.core.project import project_root
from facegan.tracking import images, note, views
from facegan.tracking.connection import insist
from facegan.tracking.points import Points, from_history
from facegan.tracking.record import FILES, Record, find_record, is_running
from facegan.tracking.store import artifact_location

FINGERPRINT = "facegan.fingerprint"
COLLAPSED = "facegan.collapsed"  # the last collapse of the training
COMPARABILITY_NOTE = "facegan.comparability_note"
# MLflow's UI opens the experiment in its view for model training.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
PROVENANCE = "provenance"  # folder of artifacts
DATASET = "photographs"


@dataclass
class Known:
    """What one process knows of a run, so that it need not ask again at each score."""

    points: Points = field(default_factory=Points)
    images: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)


def mirror(
    client: MlflowClient,
    folder: Path,
    experiment: str,
    known: Known | None = None,
    tell: Callable[[], object] = lambda: None,
) -> Run:
    """Update the MLflow run of the training in `folder` from its history, and return it.

    The run is found by the training's fingerprint, and created if there is none. The step of each
    metric is the number of images seen.

    Args:
        folder: contains `history.jsonl` and the sample pictures.
        experiment: MLflow's experiment, created if missing.
        known: of an earlier call for the same run, in this process.
        tell: called after each request that succeeded.
    Raises:
        FaceganError: if the history is missing or damaged, or the experiment is deleted. MLflow's
            own exceptions pass through.
    """
    known = known or Known()
    events = read_history(folder / NAME)
    start = events[0]
    record = find_record(folder, start["fingerprint"])
    running = record.folder is not None and not record.end and is_running(record.folder.parent)
    if running:  # a crash or a rollback repeats what comes after the last score
        last = record.scores[-1][0] if record.scores else 0
        events = [e for e in events if e.get("images_seen", 0) <= last]
    run = _find_run(client, start, experiment, record)
    run_id = run.info.run_id
    tell()
    _complete(client, run, start, record)
    tell()
    expected = from_history(events, record, run.info.start_time)
    known.points.log_missing(client, run, expected, tell)
    collapses = [event for event in events if event["event"] == "collapse"]
    if collapses:
        text = f"at {collapses[-1]['images_seen']:,} images seen: {collapses[-1]['reason']}"
        _set_tags(client, run, {COLLAPSED: text})
    _set_status(client, run, record, running)
    # Last, because an artifact store can fail where the server does not.
    pictures = {e["images_seen"]: folder / e["picture"] for e in events if "picture" in e}
    images.log_missing(client, run, pictures, known.images, tell)
    _log_files(client, run_id, record, known.files)
    tell()
    return client.get_run(run_id)


def _find_run(client: MlflowClient, start: dict[str, Any], experiment: str, record: Record) -> Run:
    experiment_id, fingerprint = ensure_experiment(client, experiment), start["fingerprint"]
    tags = {FINGERPRINT: fingerprint, "facegan.data": start["data"]}
    while not (found := find_runs(client, experiment_id, fingerprint)):
        created = client.create_run(
            experiment_id,
            start_time=record.time(0, int(time.time() * 1000)),
            tags=tags,
            run_name=f"train-{fingerprint[:6]}",
        )
        if len(find_runs(client, experiment_id, fingerprint)) == 1:
            return created
        # Another process created one in the same moment, and may delete it for the same reason.
        client.delete_run(created.info.run_id)
        time.sleep(random.uniform(0.1, 1.0))
    return found[0]


def find_runs(client: MlflowClient, experiment_id: str, fingerprint: str) -> list[Run]:
    """Return the runs of a training, the oldest first."""
    found = client.search_runs([experiment_id], f"tags.`{FINGERPRINT}` = '{fingerprint}'")
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def ensure_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of MLflow's experiment, which is created if there is none.

    Raises:
        FaceganError: if it is deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        location = artifact_location(client.tracking_uri, name)
        try:
            return client.create_experiment(name, location, EXPERIMENT_TAGS)
        except MlflowException:  # another process was faster, or it fails again
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise FaceganError(
            f"MLflow's experiment {name} is deleted; restore it with mlflow experiments restore "
            f"-x {found.experiment_id}, or set another register.name"
        )
    return str(found.experiment_id)


def _complete(client: MlflowClient, run: Run, start: dict[str, Any], record: Record) -> None:
    """Log what a run has once: parameters, origin, data set."""
    params = {"images": start["images"], "shape": start["shape"], "seed": start["seed"]}
    params |= {f"train.{name}": value for name, value in start["train"].items()}
    lacking = [Param(k, str(v)) for k, v in params.items() if k not in run.data.params]
    if lacking:
        insist(partial(client.log_batch, run.info.run_id, params=lacking))
    tags = record.run.get("tags", {})
    _set_tags(client, run, {k: v for k, v in tags.items() if k not in run.data.tags})
    if run.inputs is None or not run.inputs.dataset_inputs:
        entity = dataset(start, tags.get("facegan.dvc.data.data", ""))
        insist(client.log_inputs, run.info.run_id, [entity])


def dataset(start: dict[str, Any], dvc_hash: str) -> DatasetInput:
    """MLflow's description of the training images."""
    # The profile needs the shape alone: one byte, repeated.
    array = np.broadcast_to(np.uint8(0), (start["images"], *start["shape"]))
    source, digest = str(project_root() / "data"), start["data"][:8]
    with warnings.catch_warnings():
        # MLflow knows two classes of one name for local folders; either is right.
        warnings.simplefilter("ignore", UserWarning)
        described = from_numpy(array, source=source, name=DATASET, digest=digest).to_dict()
    tags = [InputTag("mlflow.data.context", "train")]
    tags += [InputTag("facegan.dvc", dvc_hash)] if dvc_hash else []
    return DatasetInput(Dataset(**described), tags)


def _log_files(client: MlflowClient, run_id: str, record: Record, known: set[str]) -> None:
    files = sorted((record.folder / FILES).glob("*")) if record.folder else []
    if any(path.name not in known for path in files):
        known |= {Path(a.path).name for a in client.list_artifacts(run_id, PROVENANCE)}
    for path in files:
        if path.name not in known:
            client.log_artifact(run_id, str(path), PROVENANCE)
            known.add(path.name)


def _set_status(client: MlflowClient, run: Run, record: Record, running: bool) -> None:
    run_id, status = run.info.run_id, run.info.status
    if running:
        if status != "RUNNING":
            client.update_run(run_id, status="RUNNING")
    elif record.end:
        if status != record.end["status"]:
            client.set_terminated(run_id, record.end["status"], record.end["time"])
    elif status == "RUNNING":  # without a record, only the outputs of a finished one are here
        client.set_terminated(run_id, "KILLED" if record.folder else "FINISHED")


def _set_tags(client: MlflowClient, run: Run, tags: dict[str, str]) -> None:
    changed = [RunTag(k, v) for k, v in tags.items() if run.data.tags.get(k) != v]
    if changed:
        insist(partial(client.log_batch, run.info.run_id, tags=changed))


def log_scores(
    client: MlflowClient, run: Run, scores: dict[str, Any], model_id: str | None = None
) -> None:
    """Log the official scores of `metrics.json` as metrics whose names state the protocol.

    They become columns and charts of MLflow's pages of runs.

    Args:
        model_id: MLflow's logged model that the scores belong to; its page shows them too.
    """
    name, step = scores["protocol"]["name"], scores["images_seen"]
    # Other keys of `scores` do not contain the label.
    label = name.partition("_")[2]
    metrics = {key: value for key, value in scores.items() if label in key and _is_number(value)}
    metrics |= {f"{name}_{key}": scores[key] for key in ("untrained", "floor")}
    logged, of_model = dict(run.data.metrics), dict[str, Any]()
    if model_id:
        points = client.get_logged_model(model_id).metrics or []
        logged = {p.key: p.value for p in sorted(points, key=lambda point: point.timestamp)}
        of_model = {"model_id": model_id, **_dataset_of(run)}
    lacking = {key: value for key, value in metrics.items() if logged.get(key) != value}
    for key, value in lacking.items():
        moment = _moment(client, run, key, value)
        client.log_metric(run.info.run_id, key, value, timestamp=moment, step=step, **of_model)
    if lacking:
        views.share(client, run.info.experiment_id)
    tags = {note.TAG: note.text(run, scores)}
    if text := scores["protocol"]["comparability_note"]:
        tags[COMPARABILITY_NOTE] = f"{label}: {text}"
    if not note.is_ours(run.data.tags.get(note.TAG, "")):  # a person's own note
        del tags[note.TAG]
    _set_tags(client, run, tags)


def _moment(client: MlflowClient, run: Run, key: str, value: float) -> int:
    """The time of a new point in milliseconds: after those of other values, because MLflow shows
    the last one, and a model has one for each time. It is not the present, so that two processes
    at once log one point."""
    history = client.get_metric_history(run.info.run_id, key)
    last = max((point.timestamp for point in history), default=run.info.start_time)
    others = any(point.timestamp == last and point.value != value for point in history)
    return last + others


def _dataset_of(run: Run) -> dict[str, str]:
    for entry in run.inputs.dataset_inputs if run.inputs else []:
        return {"dataset_name": entry.dataset.name, "dataset_digest": entry.dataset.digest}
    return {}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
