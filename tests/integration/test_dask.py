"""A real Dask scheduler and two worker processes on loopback."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from conftest import make_params
from facegan.core.errors import FaceganError
from facegan.core.events import Event, Progress
from facegan.preprocess.stage import preprocess
from samples import encoded, fill, noise, settings, tarred

pytestmark = pytest.mark.e2e

PARAMS = make_params().preprocess
# Python's -m, because the environment's own scripts may not be on PATH.
DASK = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
WORKER = [sys.executable, "-m", "distributed.cli.dask_worker"]


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start a cluster; yields the scheduler's address and the worker processes."""
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    processes = [_start([*DASK, *options], folder / "scheduler.log")]
    try:
        address = _find(folder / "scheduler.log", r"Scheduler at: *(tcp://\S+)")
        for number in range(workers):
            local = ["--local-directory", str(folder / f"worker {number}")]
            options = [address, "--nthreads", "1", "--no-dashboard", "--no-nanny", *local]
            processes.append(_start([*WORKER, *options], folder / f"worker {number}.log"))
        for number in range(workers):
            _find(folder / f"worker {number}.log", "Registered to: *(tcp://)")
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def _start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)


def _find(log: Path, pattern: str) -> str:
    for _ in range(300):
        if found := re.search(pattern, log.read_text("utf-8")):
            return found.group(1)
        time.sleep(0.1)
    raise AssertionError(log.read_text("utf-8"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,500 photographs, which take a worker some seconds, and a text file."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for number in range(1500):
        small = generator.integers(0, 256, (12, 12, 3), np.uint8)
        Image.fromarray(small).resize((300, 300)).save(folder / f"{number:04}.jpg")
    (folder / "text.jpg").write_text("hello")
    return folder


@pytest.fixture(scope="module")
def local(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("local") / "out"
    preprocess(photographs, out, PARAMS)
    return contents(out)


def test_outputs_of_a_cluster_equal_those_of_a_local_run(
    photographs: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    with cluster(tmp_path, workers=2) as (address, _):
        preprocess(photographs, tmp_path / "out", PARAMS, executor=address)
    assert contents(tmp_path / "out") == local


@pytest.mark.faults
def test_a_killed_worker_does_not_change_the_outputs(
    photographs: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    killed: list[int] = []
    with cluster(tmp_path, workers=2) as (address, workers):

        def kill_a_worker_midway(event: Event) -> None:
            if isinstance(event, Progress) and event.done > 300 and not killed:
                workers[0].kill()
                killed.append(workers[0].wait())

        out = tmp_path / "out"
        preprocess(photographs, out, PARAMS, executor=address, on_event=kill_a_worker_midway)
    assert killed == [-9]
    assert contents(out) == local


def test_a_cluster_without_workers_is_one_line(photographs: Path, tmp_path: Path) -> None:
    with (
        cluster(tmp_path, workers=0) as (address, _),
        pytest.raises(FaceganError, match=f"{address}: the scheduler has no workers; start: dask"),
    ):
        preprocess(photographs, tmp_path / "out", PARAMS, executor=address)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_an_unreachable_scheduler_is_one_line(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facegan.preprocess.workers.TIMEOUT", 1)
    with pytest.raises(FaceganError, match=r"tcp://127\.0\.0\.1:9: no Dask scheduler") as caught:
        preprocess(photographs, tmp_path / "out", PARAMS, executor="tcp://127.0.0.1:9")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A folder with a compressed tar that has a photograph above Dask's recommended task size."""
    members = {"large.bmp": encoded(noise(0, 2000, 2000), "BMP"), "a.png": encoded(noise(1))}
    files = {f"{seed:03}.png": encoded(noise(seed, 60, 60)) for seed in range(2, 200)}
    return fill(tmp_path / "few", {**files, "archive.tar.gz": tarred(members, "w:gz")})


def test_a_relative_folder_and_large_photographs_of_a_compressed_tar_are_read(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(tmp_path, workers=1) as (address, _):
        monkeypatch.chdir(few.parent)  # not the workers' working directory
        preprocess(few.name, tmp_path / "out", settings(), executor=address)
    preprocess(few, tmp_path / "local", settings(), workers=1)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


@pytest.mark.faults
def test_a_killed_scheduler_is_one_line(
    photographs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    killed: list[int] = []
    with (
        cluster(tmp_path, workers=1) as (address, _),
        pytest.raises(FaceganError, match=f"^{address}: lost the scheduler") as caught,
    ):

        def kill_the_scheduler(event: Event) -> None:
            if not killed:
                children = psutil.Process().children()
                # Where setproctitle is installed, Dask names its process "dask scheduler".
                (scheduler,) = (
                    p for p in children if re.search("dask.scheduler", " ".join(p.cmdline()))
                )
                scheduler.kill()
                killed.append(scheduler.pid)

        out = tmp_path / "out"
        preprocess(photographs, out, settings(), executor=address, on_event=kill_the_scheduler)
    assert len(str(caught.value).splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
