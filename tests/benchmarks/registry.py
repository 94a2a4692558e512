"""What MLflow costs: on SQLite, on servers, and on servers with 10,000 runs and 2,000 versions."""

import json
import os
import statistics
import subprocess
import sys
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode

import pytest
import torch
import yaml
from mlflow import MlflowClient

import stores
from benchmarks.harness import Line, seconds
from conftest import enter, make_params
from facegan.features.frechet import FeatureMoments, Statistics
from facegan.register import registry, versions
from facegan.tracking import connection, runs, ui
from histories import losses, score, write
from postgres import Postgres
from registrations import NAME, Trainer

RUNS, EVENTS = 20, 166  # losses of three metrics each, and two scores: 500 points a run
MANY_RUNS, MANY_VERSIONS = 10_000, 2_000
ROUNDS = 3
# Seconds that a command may take: a person waits for it.
LIMITS = {"facegan models": 10.0, "register, no-op": 10.0}
LIMITS_SQLITE = {"register, no-op": 3.0}


def run() -> Iterator[Line]:
    for kind in ("sqlite", "proxied", "direct"):
        with TemporaryDirectory() as name, _store(kind, Path(name)) as store:
            yield from _measure(kind, store, Path(name) / "project")


@contextmanager
def _store(kind: str, folder: Path) -> Iterator[stores.Store]:
    if kind != "sqlite":
        with stores.start(kind, folder) as server:
            yield server
        return
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder, {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"})
        connection.connect()
    yield stores.Sqlite(folder / "mlflow.db")


def _measure(kind: str, store: stores.Store, folder: Path) -> Iterator[Line]:
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        enter(patch, folder, store.clear(folder))
        patch.setenv("FACEGAN_DEVICE", "cpu")
        (folder / "params.yaml").write_text(yaml.safe_dump(_params()))
        client = connection.connect()
        trainings = [_training(folder / f"run-{n}", n) for n in range(RUNS)]
        spent = [seconds(lambda t=t: runs.mirror(client, t, NAME)) for t in trainings]  # type: ignore[misc]
        points = RUNS * (3 * EVENTS + 2)
        figure = f"{points / sum(spent):,.0f} points/s"
        yield _line(f"{kind}: {RUNS} runs of {points // RUNS} points", sum(spent), figure)
        official = folder / "official.safetensors"
        statistics_of_noise().save(official)
        register = Trainer(folder, official, exports=True)
        register(1, fid=50.0)
        register(2, fid=60.0)
        yield from _commands(f"{kind}: ", folder, official)
        if isinstance(store, stores.Server):
            filled = seconds(lambda: fill(store.database, client))
            yield _line(f"{kind}: {MANY_RUNS:,} runs, {MANY_VERSIONS:,} versions written", filled)
            yield from _commands(f"{kind}, filled: ", folder, official)


def _params() -> dict[str, Any]:
    return make_params().model_dump(by_alias=True)


def statistics_of_noise() -> Statistics:
    """Of no images: nothing is scored here."""
    metadata = {
        "extractor": make_params().reference.official.model_dump(),
        **{"count": 40, "shape": [32, 32, 1], "preprocessing": "none"},
        **{"data": "0" * 64, "holdout": ""},
    }
    moments = FeatureMoments(8)
    moments.update(torch.rand(40, 8, generator=torch.Generator().manual_seed(0)))
    return Statistics.from_moments(moments, metadata)


def _training(folder: Path, number: int) -> Path:
    events = [losses(20 * n) for n in range(1, EVENTS + 1)]
    ends = (score(0), score(20 * EVENTS))
    return write(folder, ends[0], *events, ends[1], fingerprint=f"{number:04}")


def _commands(prefix: str, folder: Path, official: Path) -> Iterator[Line]:
    train, metrics = "train-1", "train-1/metrics.json"
    work: dict[str, Callable[[], object]] = {
        "facegan models": lambda: _facegan(folder, "models"),
        "register, no-op": lambda: _facegan(folder, "register", train, metrics, str(official)),
        "load_generator": lambda: versions.load(f"models:/{NAME}/Production", torch.device("cpu")),
    }
    limits = LIMITS | (LIMITS_SQLITE if prefix.startswith("sqlite") else {})
    for name, call in work.items():
        call()
        times = [seconds(call) for _ in range(ROUNDS)]
        yield _line(prefix + name, statistics.median(times), limit=limits.get(name), times=times)
    with ui.server(None) as (address, _):
        times = [seconds(lambda: _compare(address)) for _ in range(ROUNDS)]
    yield _line(f"{prefix}comparison page, its requests", statistics.median(times), times=times)


def _facegan(folder: Path, *arguments: str) -> None:
    program = str(Path(sys.executable).with_name("facegan"))
    subprocess.run([program, *arguments], cwd=folder, check=True, capture_output=True)


def _compare(address: str) -> None:
    """What MLflow's page for the comparison of two runs asks the server."""
    api = f"{address}/ajax-api/2.0/mlflow"
    experiment = get(f"{api}/experiments/get-by-name", experiment_name=NAME)["experiment"]
    body = {"experiment_ids": [experiment["experiment_id"]], "max_results": 2}
    found = get(f"{api}/runs/search", json.dumps(body).encode())["runs"]
    ids = [entry["info"]["run_id"] for entry in found]
    keys = set()
    for run_id in ids:
        data = get(f"{api}/runs/get", run_id=run_id)["run"]["data"]
        keys |= {metric["key"] for metric in data["metrics"]}
    for key in sorted(keys):
        query = urlencode([*(("run_ids", i) for i in ids), ("metric_key", key)])
        get(f"{api}/metrics/get-history-bulk-interval?{query}&max_results=320")


def get(url: str, body: bytes | None = None, **query: str) -> Any:
    headers = {"Content-Type": "application/json"}
    if user := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{os.environ['MLFLOW_TRACKING_PASSWORD']}"
        headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    url += f"?{urlencode(query)}" if query else ""
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def fill(database: Postgres, client: MlflowClient) -> None:
    """Copy version 2 and its run until there are as many as in years of use."""
    version = registry.read(client, NAME).versions[2]
    run = f"run_uuid = '{version.run}'"
    own_run = {"run_uuid": "md5(i::text)"}
    value = (
        "CASE WHEN key IN ('facegan.fingerprint', 'facegan.generator', 'facegan.discriminator') "
        "THEN md5(i::text) WHEN key = 'facegan.stage' THEN 'Archived' ELSE value END"
    )
    number = {"version": "1000 + i"}
    of_version = f"name = '{NAME}' AND version = 2"
    with_stage = {"current_stage": "'Archived'", "run_id": "md5(i::text)"}
    for table, where, count, changes in (
        ("runs", run, MANY_RUNS, own_run | {"name": "'train-' || i"}),
        ("params", run, MANY_RUNS, own_run),
        ("latest_metrics", run, MANY_RUNS, own_run),
        ("metrics", run, MANY_RUNS, own_run),
        ("tags", run, MANY_RUNS, own_run | {"value": value}),
        ("model_versions", of_version, MANY_VERSIONS, number | with_stage),
        ("model_version_tags", of_version, MANY_VERSIONS, number | {"value": value}),
    ):
        database.copy_rows(table, where, count, changes, stores.DATABASE)
    database.execute("ANALYZE", database=stores.DATABASE)


def _line(
    name: str,
    spent: float,
    figure: str = "",
    limit: float | None = None,
    times: list[float] | None = None,
) -> Line:
    rounds = " ".join(f"{value:.2f}" for value in times or [])
    demanded = "" if limit is None else f"<= {limit:g} s"
    return Line(
        name, f"{spent:.2f} s", "", figure or rounds, demanded, limit is None or spent <= limit
    )
