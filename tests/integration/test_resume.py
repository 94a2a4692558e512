"""A training killed at any time resumes to the same bytes as an uninterrupted one."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from facegan.params import Params
from facegan.train.checkpoint import load_checkpoint, previous, save_checkpoint
from repeats import REPEATS
from samples import digests

pytestmark = pytest.mark.faults

# The training as a separate process. It kills itself at the `count`-th write, fsync or rename
# (`where`) of a checkpoint.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from facegan.core import atomic
from facegan.params import load_params
from facegan.train.stage import train
data, quick, out, params, checkpoints, where, count = sys.argv[1:]
left = int(count)
def killing(function, before=lambda *arguments: None):
    def call(*arguments):
        global left
        left -= "checkpoint." in str(arguments)
        if left == 0:
            before(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call
def write_half(path, content):
    path.open("wb").write(content[:len(content) // 2])
if where == "write":
    Path.write_bytes = killing(Path.write_bytes, write_half)
if where == "fsync":
    atomic._sync = killing(atomic._sync)
if where == "rename":
    Path.replace = killing(Path.replace)
settings = load_params(Path(params))
train(Path(data), Path(quick), Path(out), settings.train, settings.seed, torch.device("cpu"),
      Path(checkpoints))
"""


@pytest.fixture
def start(
    dataset: Path, references: tuple[Path, Path], params: Callable[..., Params], tmp_path: Path
) -> Callable[..., subprocess.Popen[bytes]]:
    import yaml

    options = {"epochs": 2, "augment": ["translation"], "hflip": True, "r1": 1.0}
    settings = params(train={**options, "lazy_reg_interval": 4, "lr_decay_from": 100})
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(settings.model_dump(by_alias=True)))

    def begin(out: str, where: str = "", count: int = 0) -> subprocess.Popen[bytes]:
        paths = [dataset, references[0], tmp_path / out, file, tmp_path / f"{out}-checkpoints"]
        command = [sys.executable, "-c", PROGRAM, *map(str, paths), where, str(count)]
        return subprocess.Popen(command)

    return begin


def test_killed_at_random_times_and_while_writing_checkpoints(
    start: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    began = time.monotonic()
    assert start("whole").wait() == 0
    length = time.monotonic() - began
    rng = random.Random(0)
    places = [("write", 2), ("fsync", 1), ("rename", 2), ("rename", 3), ("fsync", 2)]
    for where, count in places if REPEATS > 1 else places[1:3]:
        assert start("broken", where, count).wait() == -signal.SIGKILL
    killed = 0
    for _ in range(5 * REPEATS):
        process = start("broken")
        time.sleep(rng.uniform(0.2, 0.8) * length)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            killed += 1
        else:  # finished before its kill, and would only be exported again
            shutil.rmtree(tmp_path / "broken-checkpoints")
        if killed == 1 + REPEATS:
            break
    assert killed == 1 + REPEATS and start("broken").wait() == 0
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_writer_killed_at_random_times_leaves_an_intact_checkpoint(
    tmp_path: Path,
) -> None:
    path, device = tmp_path / "checkpoint.pt", torch.device("cpu")
    rng, newest, missing = random.Random(0), 0, 0
    save_checkpoint({"number": 0, "weights": torch.zeros(50_000)}, path)
    for _ in range(200 * REPEATS):
        child = os.fork()
        if child == 0:
            number = newest
            while True:
                number += 1
                save_checkpoint({"number": number, "weights": torch.full((50_000,), number)}, path)
        time.sleep(rng.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        # Between the two renames, the previous checkpoint is the newest.
        latest = path if path.exists() else previous(path)
        missing += latest != path
        state = load_checkpoint(latest, device)
        assert state["number"] >= newest - 1
        assert state["weights"].eq(state["number"]).all()
        newest = max(newest, state["number"])
    print(f"{newest} checkpoints written, {missing} times the previous one was the newest")
    assert newest > 100
