"""MLflow on PostgreSQL with many runs: the first ones written through its API, like those of
trainings, and then copied in SQL with ids, names, fingerprints and FIDs of their own."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from hashlib import sha256
from pathlib import Path
from unittest import mock

import yaml
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from benchmarks import cost
from benchmarks.harness import Line
from benchmarks.registry import get
from facegan.params import preset_text
from facegan.register import registry
from facegan.register.lineage import COMMIT
from facegan.register.scores import Scores
from facegan.tracking import runs
from postgres import Postgres, postgres
from servers import MlflowServer

NAME, DATABASE = "facegan-celeba64", "mlflow"
METRIC, QUICK = "fid5k_efficientnet-lite0-224", "quick_fid2k_efficientnet-lite0-64"
LOSSES, QUICK_FIDS = 18, 5  # points a run: three losses each, and one; with the FID, 60
VERSION_EVERY = 5  # runs


def measure(folder: Path, sizes: tuple[int, ...]) -> Iterator[Line]:
    """Times of what the product, its commands and MLflow's pages ask."""
    project = folder / "project-mlflow"
    project.mkdir()
    (project / "params.yaml").write_text(preset_text("celeba64"))
    with postgres() as database:
        database.execute(f"CREATE DATABASE {DATABASE}")
        url = database.url(DATABASE)
        server = MlflowServer(project, ["--backend-store-uri", url], {"MLFLOW_WORKERS": "1"})
        try:
            direct, done = MlflowClient(url, url), sizes[0]
            direct.create_registered_model(NAME)
            experiment = runs.ensure_experiment(direct, NAME)
            # Straight to the database: the server would take as long again.
            with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": url}):
                spent = cost.of_call(partial(_write_all, direct, experiment, done), warm=False)
            yield cost.of_calls(f"{done:,} runs written", spent, done)
            for count in sizes:
                _copy(database, done, count)
                done = count
                yield cost.of_size(f"{count:,} runs", database.size(DATABASE))
                yield from _ask(server, project, experiment, count)
        finally:
            server.kill()


def _write_all(client: MlflowClient, experiment: str, count: int) -> None:
    for number in range(count):
        _write(client, experiment, number)


def _copy(database: Postgres, done: int, count: int) -> None:
    """Make `count` runs, a multiple of those that there are, and versions likewise."""
    other = f"|| '-{count}-' || i"  # no other copy's, of these rows or of earlier ones
    own = {"run_uuid": f"md5(run_uuid {other})"}
    versions = database.scalar("SELECT max(version) FROM model_versions", DATABASE)
    number = {"version": f"version + {versions} * i"}
    hashes = f"'{runs.FINGERPRINT}', '{registry.GENERATOR}', '{registry.DISCRIMINATOR}'"
    value = {"value": f"CASE WHEN key IN ({hashes}) THEN md5(value {other}) ELSE value END"}
    fid = {"value": "value * (1 + 0.001 * i)"}
    for table, changes in {
        "runs": own | {"start_time": f"start_time + 3600000::bigint * {done} * i"},
        "params": own, "tags": own | value, "metrics": own | fid, "latest_metrics": own | fid,
        "model_versions": number | {"run_id": f"md5(run_id {other})"},
        "model_version_tags": number | value,
    }.items():  # fmt: skip
        database.copy_rows(table, "true", count // done - 1, changes, DATABASE)
    database.execute("ANALYZE", database=DATABASE)


def _write(client: MlflowClient, experiment: str, number: int) -> None:
    """What a training, `evaluate` and, for some, `register` write."""
    key, began = sha256(str(number).encode()).hexdigest(), 1_700_000_000_000 + 3_600_000 * number
    tags = {runs.FINGERPRINT: key[:16], "facegan.data": "f00d" * 16, COMMIT: key[:40]}
    run = client.create_run(experiment, began, tags, f"train-{key[:6]}").info.run_id
    params = {"images": 182_340, "shape": [64, 64, 3], "seed": number}
    params |= {f"train.{name}": value for name, value in _train().items()}
    fid = 20 + int(key[:4], 16) / 1000
    losses = [(n, LOSSES) for n in ("discriminator", "generator", "accuracy")]
    points = [
        Metric(name, fid / (step + 1), began + step, 50_000 * step)
        for name, steps in (*losses, (QUICK, QUICK_FIDS))
        for step in range(steps)
    ]
    points.append(Metric(METRIC, fid, began, 900_000))
    client.log_batch(
        run, points, [Param(k, str(v)) for k, v in params.items()],
        [RunTag(f"facegan.dvc.{name}", key[:32]) for name in ("data", "dataset", "train")],
    )  # fmt: skip
    client.set_terminated(run, "FINISHED", began + 3_000_000)
    if number % VERSION_EVERY == 0:
        model = client.create_logged_model(experiment, "generator", run).model_id
        _register(client, model, run, key, fid)


@cache
def _train() -> dict[str, object]:
    return dict(yaml.safe_load(preset_text("celeba64"))["train"])


def _register(client: MlflowClient, model: str, run: str, key: str, fid: float) -> None:
    scores = Scores("abcd1234", METRIC, fid, 0.1, 3, 5000, 947, 0.7, 0.3, 0.01)
    tags = {
        registry.GENERATOR: key, registry.DISCRIMINATOR: key[::-1], registry.FID: f"{fid:.3f}",
        registry.PROTOCOL: scores.protocol, registry.METRIC: METRIC, registry.DATA: "f00d" * 16,
        registry.SHAPE: "[64, 64, 3]", registry.STAGE: "Archived", registry.GATE: "rejected",
        f"{registry.SCORES}{scores.protocol}": json.dumps(vars(scores)),
    }  # fmt: skip
    client.create_model_version(NAME, f"models:/{model}", run, tags, model_id=model)


def _ask(server: MlflowServer, project: Path, experiment: str, count: int) -> Iterator[Line]:
    api = f"{server.url}/ajax-api/2.0/mlflow"
    client = MlflowClient(server.url)
    newest = client.search_runs([experiment], max_results=10, order_by=["start_time DESC"])
    run, fingerprint = newest[0].info.run_id, newest[0].data.tags[runs.FINGERPRINT]

    def search(order: str, query: str = "") -> object:
        body = {"experiment_ids": [experiment], "max_results": 100, "order_by": [order]}
        return get(f"{api}/runs/search", json.dumps(body | {"filter": query}).encode())

    run_ids = "&".join(f"run_ids={found.info.run_id}" for found in newest)
    chart = f"{api}/metrics/get-history-bulk-interval?{run_ids}&metric_key={QUICK}&max_results=320"
    better = f"metrics.`{METRIC}` < 25 and params.`train.loss` = 'relativistic'"
    calls: dict[str, Callable[[], object]] = {
        "page: 100 runs, the newest": lambda: search("attributes.start_time DESC"),
        "page: 100 runs by FID": lambda: search(f"metrics.`{METRIC}` ASC"),
        "page: 100 runs by FID, filtered": lambda: search(f"metrics.`{METRIC}` ASC", better),
        "page: chart of 10 runs": lambda: get(chart),
        "train: the run of a fingerprint": lambda: runs.find_runs(client, experiment, fingerprint),
        "train: a metric's history": lambda: client.get_metric_history(run, "generator"),
        "register: all versions": lambda: registry.read(client, NAME),
    }
    for name, call in calls.items():
        yield cost.of_calls(f"{count:,} runs: {name}", cost.of_call(call))
    for command in (("models",), ("models", "history"), ("gc", "--runs")):
        program = Path(sys.executable).with_name("facegan")
        environment = {"MLFLOW_TRACKING_URI": server.url}
        spent = cost.run([program, *command], project / "log", environment, project)
        name = " ".join(("facegan", *command))
        yield cost.of_calls(f"{count:,} runs: {name}, its process", spent)
