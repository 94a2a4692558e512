"""A training's mirror against real servers that are killed, hung and restarted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from buckets import credentials, rclone
from commands import facegan
from conftest import enter, make_params
from facegan.core import events
from facegan.core.errors import FaceganError, Interrupted
from facegan.core.history import append_history, read_history
from facegan.tracking import connection, mirror, record, runs
from histories import QUICK, grids, interval, points, running, samples, score, write
from servers import MlflowServer, free_port, wait
from stores import Server, Store

FAST = 1.0  # seconds: what an event may take at most on a busy machine


class Trainer:
    """Reports what a real one reports, with a score every 20 images."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.seen, self.slowest = folder, 0, 0.0
        self.messages: list[str] = []
        write(folder, samples(0), score(0))

    def note(self, event: events.Event) -> None:
        if isinstance(event, events.Message):
            self.messages.append(event.text)

    def go(self, report: mirror.Mirror, intervals: int, pause: float = 0.0) -> None:
        for _ in range(intervals):
            if self.seen:
                pictures = [e for e in interval(self.seen) if "picture" in e]
                shutil.copy(
                    self.folder / "samples/0000000000.png", self.folder / pictures[0]["picture"]
                )
                for event in interval(self.seen):
                    append_history(self.folder / "history.jsonl", event)
            began = time.monotonic()
            report(events.Metrics({}))
            report(events.Scored(self.folder, self.seen, 5.0))
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.seen += 20
            time.sleep(pause)

    def start(self, report: mirror.Mirror) -> None:
        """The first score, and until the child works: its imports take seconds."""
        self.go(report, 1)
        started = report.heard

        def works() -> bool:
            report(events.Metrics({}))
            return report.heard > started

        wait(works, 60)

    def require_complete(self, client: MlflowClient, run_id: str) -> None:
        steps = list(range(0, self.seen, 20))
        found = points(client, run_id)
        assert [s for s, _ in found[QUICK]] == steps
        assert [s for s, _ in found["images_per_second"]] == steps
        assert [s for s, _ in found["loss/generator"]] == list(range(10, self.seen - 10, 10))
        assert grids(client, run_id) == [(s, suffix) for s in steps for suffix in (".png", ".webp")]


def only_run(client: MlflowClient) -> Any:
    experiment = client.get_experiment_by_name("faces")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


@pytest.fixture(name="any_server", scope="module")
def start_server(
    backend: Store, empty_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    if isinstance(backend, Server):
        yield backend.server
        return
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(empty_store, folder / "mlflow.db")
    server = MlflowServer(folder)
    yield server
    server.go_on()
    server.kill()


@pytest.fixture(name="server")
def use_server(
    any_server: MlflowServer, backend: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> MlflowServer:
    """A server, as this process's store."""
    if isinstance(backend, Server):
        enter(monkeypatch, tmp_path, backend.clear(tmp_path))
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", any_server.url)
    return any_server


@pytest.fixture(name="trainer")
def make_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    monkeypatch.setenv("FACEGAN_CHECKPOINTS", str(tmp_path / "checkpoints"))
    trainer = Trainer(tmp_path / "checkpoints" / "a")
    with running(trainer.folder):
        yield trainer


@pytest.mark.faults
def test_a_server_that_hangs_and_is_killed_and_restarted_has_everything_once(
    server: MlflowServer, trainer: Trainer
) -> None:
    with mirror.Mirror("faces", trainer.note) as report:
        trainer.start(report)
        trainer.go(report, 20, 0.1)
        server.hang()
        trainer.go(report, 10, 0.1)
        server.go_on()
        server.kill()
        trainer.go(report, 10, 0.1)
        server.start()
        trainer.go(report, 5)
    assert trainer.slowest < FAST
    assert len(trainer.messages) <= 2  # hung, and refused
    client = connection.connect()
    run = only_run(client)
    assert run.info.status == "FINISHED"
    trainer.require_complete(client, run.info.run_id)
    before = points(client, run.info.run_id)
    runs.mirror(client, trainer.folder, "faces")
    assert points(client, run.info.run_id) == before


@pytest.mark.faults
def test_a_server_that_never_answers_costs_seconds_and_sync_does_the_rest(
    server: MlflowServer, trainer: Trainer
) -> None:
    server.hang()
    began = time.monotonic()
    try:
        with suppress(Interrupted), mirror.Mirror("hung", trainer.note) as report:
            trainer.go(report, 5)
            began = time.monotonic()
            raise Interrupted("stopped")
    finally:
        server.go_on()
    assert time.monotonic() - began < mirror.KILLED_TOTAL + 2
    assert trainer.slowest < FAST
    (message,) = trainer.messages
    assert "facegan sync" in message and "\n" not in message
    assert report.child is not None and not psutil.pid_exists(report.child.pid)
    client = connection.connect()
    run = runs.mirror(client, trainer.folder, "hung")
    assert run.info.status == "KILLED"
    trainer.require_complete(client, run.info.run_id)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "FINISHED"),
        (Interrupted("stopped"), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (FaceganError("NaN"), "FAILED"),
        (ZeroDivisionError(), "FAILED"),
    ],
)
def test_the_status_on_record_is_how_the_training_ended(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, error: BaseException | None, status: str
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with suppress(BaseException), mirror.Mirror("faces", trainer.note) as report:
        trainer.go(report, 1)
        if error:
            raise error
    assert record.read_record(trainer.folder).end["status"] == status


@pytest.mark.faults
def test_a_lost_artifact_store_neither_stops_the_training_nor_its_points(
    store: Path, trainer: Trainer, buckets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (buckets / "models").mkdir()
    connection.connect().create_experiment("faces", "s3://models/x")
    for name, value in credentials(f"http://127.0.0.1:{free_port()}").items():
        monkeypatch.setenv(name, value)
    with mirror.Mirror("faces", trainer.note) as report:
        trainer.start(report)
        trainer.go(report, 2)
    (message,) = trainer.messages
    assert message.startswith("MLflow's artifact storage: Could not connect to the endpoint URL")
    client = connection.connect()
    run = only_run(client)
    assert run.info.status == "FINISHED"
    assert [step for step, _ in points(client, run.info.run_id)[QUICK]] == [0, 20, 40]
    with rclone(buckets) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        runs.mirror(client, trainer.folder, "faces")
        trainer.require_complete(client, run.info.run_id)


@pytest.mark.faults
def test_a_training_that_is_killed_ends_killed_and_leaves_no_process(
    store: Path, tmp_path: Path
) -> None:
    write(tmp_path / "run", samples(0), score(0))
    code = (
        "import sys, time, pathlib\n"
        "from facegan.core.events import Scored\n"
        "from facegan.tracking.mirror import Mirror\n"
        "with Mirror('faces', print) as mirror:\n"
        "    mirror(Scored(pathlib.Path('run'), 0, 5.0))\n"
        "    print(mirror.child.pid, flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    child = psutil.Process(int(next(line for line in lines if line.strip().isdigit())))
    process.kill()
    process.communicate()
    child.wait(60)
    run = only_run(connection.connect())
    assert run.info.status == "KILLED"
    assert record.read_record(tmp_path / "run").end["status"] == "KILLED"


@pytest.mark.faults
def test_a_real_training_again_and_while_the_server_hangs_has_every_point_once(
    server: MlflowServer,
    dataset: Path,
    references: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    params = make_params(train={"eval_interval": 180}, register={"name": "real"})
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params.model_dump(by_alias=True)))
    server.hang()
    hung = facegan("train", dataset, references[0], "out", cwd=tmp_path)
    server.go_on()
    assert hung.returncode == 0 and hung.stderr.count("facegan sync") == 1, hung.stderr
    again = facegan("train", dataset, references[0], "again", cwd=tmp_path)
    assert again.returncode == 0 and "facegan sync" not in again.stderr, again.stderr
    assert facegan("sync", cwd=tmp_path).returncode == 0
    client = connection.connect()
    experiment = client.get_experiment_by_name("real")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    events = read_history(tmp_path / "out/history.jsonl")
    expected = {
        QUICK: [(e["images_seen"], e["quick_fid"]) for e in events if e["event"] == "score"],
        "diversity": [(e["images_seen"], e["diversity"]) for e in events if "diversity" in e],
    }
    found = points(client, run.info.run_id)
    assert {key: found[key] for key in expected} == expected
    steps = {step for step, _ in expected["diversity"]}
    assert len(grids(client, run.info.run_id)) == 2 * len(steps)
    assert run.info.status == "FINISHED"


def test_a_mirror_that_cannot_start_is_one_message(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with mirror.Mirror("faces", trainer.note) as report:
        trainer.go(report, 3)
    (message,) = trainer.messages
    assert "/nowhere/python" in message and "facegan sync" in message


def test_a_mirror_that_dies_is_one_message(store: Path, trainer: Trainer) -> None:
    with mirror.Mirror("faces", trainer.note) as report:
        trainer.go(report, 1)
        assert report.child is not None
        os.kill(report.child.pid, signal.SIGKILL)
        trainer.go(report, 20, 0.05)
    (message,) = trainer.messages
    assert message.startswith("MLflow: the mirror ended with status -9; training continues")


def test_a_run_says_where_it_comes_from(store: Path, trainer: Trainer) -> None:
    (store / "params.yaml").write_text("seed: 0\n")
    with mirror.Mirror("faces", trainer.note, "cuda:1") as report:
        trainer.start(report)
        trainer.go(report, 1)
    client = connection.connect()
    run = only_run(client)
    tags = run.data.tags
    assert tags["mlflow.source.name"] == "facegan train" and tags["mlflow.user"]
    assert tags["facegan.device"].startswith("cuda:1") and tags["facegan.host"]
    assert "torch " in tags["facegan.versions"]
    assert run.inputs is not None
    (entry,) = run.inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("photographs", "beefbeef")
    assert json.loads(entry.dataset.profile)["features_shape"] == [540, 32, 32, 1]
    files = {Path(a.path).name for a in client.list_artifacts(run.info.run_id, "provenance")}
    assert files == {"params.yaml", "requirements.txt"}
    assert trainer.messages == []
