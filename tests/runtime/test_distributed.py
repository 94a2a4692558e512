"""Distributed work, in processes that torchrun starts."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from conftest import make_params
from facegan.core.errors import FaceganError
from facegan.core.history import read_history
from facegan.data.batches import Batches
from facegan.data.dataset import load_images
from facegan.evaluate.image_set import ImageSet
from facegan.evaluate.score import Reference, score
from facegan.evaluate.stage import evaluate
from facegan.features.frechet import Statistics
from facegan.params import Params
from facegan.runtime.distributed import SINGLE, Group, process_group
from facegan.train.checkpoint import load_checkpoint
from facegan.train.gan_state import GANState
from facegan.train.stage import train
from processes import run_distributed

MakeParams = Callable[..., Params]
CPU = torch.device("cpu")
# At higher rates, float32 rounding may move an activation across a leaky ReLU's kink, and losses
# diverge; in float64 they agreed to 1e-15 after twenty steps at 0.0005.
NORM_FREE: dict[str, Any] = {
    "lr": 0.0002,
    "architecture": "residual",
    "loss": "relativistic",
    "r1": 1.0,
    "r2": 1.0,
    "lazy_reg_interval": 4,
    "hflip": True,
    "augment": ["translation", "cutout"],
}
# Losses of twenty steps, and sums of the final weights, of each process.
STEPS = """
import json, sys
from pathlib import Path
import torch
from facegan.data.batches import Batches
from facegan.data.dataset import load_images
from facegan.runtime.distributed import process_group
from facegan.params import load_params
from facegan.train.gan_state import GANState
dataset, params, out = map(Path, sys.argv[1:])
settings, device = load_params(params), torch.device("cpu")
with process_group(device) as group:
    batches = Batches(load_images(dataset), settings.train.batch_size, 0, group=group)
    gan = GANState(settings.train, 32, 1, 0, device, group)
    losses = [gan.train_step(next(batches)).tolist() for _ in range(20)]
    weights = [float(w.double().sum()) for w in gan.generator.parameters()]
(out / f"{group.rank}.json").write_text(json.dumps([losses, weights]))
"""


# Reference and scores, computed by all processes together.
SCORES = """
import contextlib, json, sys
from pathlib import Path
import torch
from facegan.runtime import distributed
from facegan.data.dataset import load_images
from facegan.evaluate.image_set import ImageSet
from facegan.evaluate.score import Reference, score
from facegan.evaluate.stage import evaluate
from facegan.params import load_params
from facegan.reference.stage import reference
dataset, trained, official, out = map(Path, sys.argv[1:])
settings, device = load_params(out / "params.yaml"), torch.device("cpu")
few = settings.evaluate.model_copy(update={"num_samples": 250})
requested = settings.reference.official
with distributed.process_group(device) as group:
    # Both in the same processes, because starting them takes longer than the work.
    distributed.process_group = lambda device: contextlib.nullcontext(group)
    reference(dataset, out / "quick", out / "official", settings.reference, device)
    evaluate(trained, dataset, official, out / "e", out / "together.json", few, requested, device)
    images = ImageSet(load_images(dataset)[:150], "", [])
    scores = score(images, Reference.load(official), device)
    assert (scores is not None) == group.is_main
    if scores:
        (out / "score.json").write_text(json.dumps(scores))
"""


# A training in which process 1 alone gets NaN weights, right before a check; its final state.
ROLLBACK = """
import json, sys
from pathlib import Path
import torch
from facegan.params import load_params
from facegan.train.gan_state import GANState
from facegan.train.stage import train
from facegan.train.trainer import Trainer
dataset, quick, params, out = map(Path, sys.argv[1:])
settings, steps = load_params(params), 0
train_step, run = GANState.train_step, Trainer.run
def step(gan, images):
    global steps
    steps += 1
    metrics = train_step(gan, images)
    if steps == 17 and gan.group.rank == 1:
        with torch.no_grad():
            next(gan.generator.parameters()).fill_(float("nan"))
    return metrics
def run_and_record(trainer, finish):
    run(trainer, finish)
    weights = [float(w.double().sum()) for w in trainer.gan.generator.parameters()]
    recorder = trainer.recorder
    fid = recorder.best["quick_fid"]
    decisions = trainer.rollbacks, recorder.unimproved, fid, recorder.diversity
    (out / f"{trainer.group.rank}.json").write_text(json.dumps([weights, decisions]))
GANState.train_step, Trainer.run = step, run_and_record
checkpoints = out / "checkpoints"
device = torch.device("cpu")
train(dataset, quick, out / "out", settings.train, settings.seed, device, checkpoints)
"""


def torchrun(*arguments: str | Path, processes: int = 2) -> subprocess.Popen[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, f"--nproc-per-node={processes}", *map(str, arguments)]
    environment = os.environ | {"FACEGAN_DEVICE": "cpu"}
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.fixture
def write(tmp_path: Path, params: MakeParams) -> Callable[..., Params]:
    def write_params(**train: Any) -> Params:
        settings = params(train=train)
        text = yaml.safe_dump(settings.model_dump(by_alias=True))
        (tmp_path / "params.yaml").write_text(text)
        return settings

    return write_params


@pytest.mark.faults
def test_scores_of_two_processes_equal_those_of_one(
    trained: Path, dataset: Path, references: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = make_params()
    few, requested = (
        settings.evaluate.model_copy(update={"num_samples": 250}),
        settings.reference.official,
    )
    inputs = (trained, dataset, references[1])
    evaluate(*inputs, tmp_path / "evaluation", tmp_path / "metrics.json", few, requested, CPU)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(by_alias=True)))
    (tmp_path / "scores.py").write_text(SCORES)
    process = torchrun(tmp_path / "scores.py", dataset, trained, references[1], tmp_path)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    one, two = Statistics.load(references[1]), Statistics.load(tmp_path / "official")
    assert one.metadata["floor"] == pytest.approx(two.metadata["floor"], rel=1e-6)
    torch.testing.assert_close(one.subset, two.subset)
    torch.testing.assert_close(one.covariance, two.covariance)
    assert torch.equal(one.train_indices, two.train_indices)
    single, distributed = (
        json.loads((tmp_path / name).read_text()) for name in ("metrics.json", "together.json")
    )
    name = "fid250_efficientnet-lite0-32"
    assert distributed[name] == pytest.approx(single[name], rel=1e-6)
    numbers = {key: value for key, value in single.items() if isinstance(value, float)}
    assert {key: distributed[key] for key in numbers} == pytest.approx(numbers, rel=1e-5, abs=1e-5)
    images = ImageSet(load_images(dataset)[:150], "", [])
    given = score(images, Reference.load(references[1]), CPU) or {}
    together = json.loads((tmp_path / "score.json").read_text())
    numbers = {key: value for key, value in given.items() if isinstance(value, float)}
    assert "fid150_efficientnet-lite0-32" in numbers
    assert {key: together[key] for key in numbers} == pytest.approx(numbers, rel=1e-5, abs=1e-5)


@pytest.mark.e2e
def test_losses_of_two_processes_equal_those_of_one(
    write: Callable[..., Params], dataset: Path, tmp_path: Path
) -> None:
    settings = write(**NORM_FREE)
    run_distributed(STEPS, dataset, tmp_path / "params.yaml", tmp_path)
    (losses, weights), (other_losses, other_weights) = (
        json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)
    )
    assert losses == other_losses and weights == other_weights
    batches = Batches(load_images(dataset), settings.train.batch_size, 0)
    single = GANState(settings.train, 32, 1, 0, CPU)
    expected = [single.train_step(next(batches)).tolist() for _ in range(20)]
    difference = (torch.tensor(losses) - torch.tensor(expected))[:, :2].abs().max().item()
    print(f"largest difference of a loss in 20 steps: {difference:.1e}")
    assert difference < 1e-3


@pytest.mark.faults
def test_nan_in_one_process_rolls_all_back_and_quick_fids_equal_those_of_one(
    write: Callable[..., Params], dataset: Path, references: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = write(**NORM_FREE)
    (tmp_path / "rollback.py").write_text(ROLLBACK)
    paths = (dataset, references[0], tmp_path / "params.yaml", tmp_path)
    output, _ = (process := torchrun(tmp_path / "rollback.py", *paths)).communicate()
    assert process.returncode == 0, output
    main, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert main == other
    events = read_history(tmp_path / "out" / "history.jsonl")
    rollbacks = [event for event in events if event["event"] == "rollback"]
    assert rollbacks == [{"event": "rollback", "images_seen": 280, "attempt": 1}]
    single = tmp_path / "single"
    train(dataset, references[0], single, settings.train, settings.seed, CPU, tmp_path / "other")
    scores = [
        [event["quick_fid"] for event in history if event["event"] == "score"]
        for history in (events, read_history(single / "history.jsonl"))
    ]
    # The first one is of the same weights; the others are of trainings that may round differently.
    assert scores[0][0] == pytest.approx(scores[1][0], rel=1e-6)
    assert len(scores[0]) == len(scores[1]) == 3


@pytest.fixture(name="start")
def make_start(
    store: Path, dataset: Path, references: tuple[Path, Path], tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    def start(out: str = "out", processes: int = 2) -> subprocess.Popen[str]:
        paths = (dataset, references[0], tmp_path / out)
        options = ("--checkpoints", tmp_path / f"{out}-checkpoints")
        return torchrun("-m", "facegan", "train", *paths, *options, processes=processes)

    return start


def workers(launcher: int) -> list[int]:
    """Process ids of the launcher's workers, by rank."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    ranks = {}
    for child in map(int, children):
        environment = Path(f"/proc/{child}/environ").read_bytes()
        if found := re.search(rb"\0RANK=(\d+)", environment):
            ranks[int(found[1])] = child
    return [ranks[rank] for rank in sorted(ranks)]


def wait_for_sample(launcher: subprocess.Popen[str], folder: Path, pattern: str) -> None:
    while not list((folder / "out-checkpoints").glob(f"*/samples/{pattern}.png")):
        assert launcher.poll() is None
        time.sleep(0.05)


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_if_a_process_dies_the_others_exit_and_the_same_command_resumes(
    write: Callable[..., Params], start: Callable[..., Any], tmp_path: Path
) -> None:
    write(**NORM_FREE, epochs=2, eval_interval=540)
    output, _ = (whole := start("whole")).communicate()
    assert whole.returncode == 0, output
    for rank, sample in ((1, "0000000[1-9]*"), (0, "0000000[6-9]*")):
        launcher = start()
        wait_for_sample(launcher, tmp_path, sample)
        os.kill(workers(launcher.pid)[rank], signal.SIGKILL)
        killed = time.monotonic()
        output, _ = launcher.communicate()
        assert launcher.returncode != 0
        assert time.monotonic() - killed < 30
        print(f"process {rank} was killed: {[s for s in output.splitlines() if 'facegan:' in s]}")
        assert re.search(r"facegan: (process \d of 2: another process|stopped at)", output)
    output, _ = (again := start()).communicate()
    assert again.returncode == 0, output
    assert "resuming from" in output
    events = read_history(tmp_path / "out" / "history.jsonl")
    assert events == read_history(tmp_path / "whole" / "history.jsonl")
    for name in ("generator.safetensors", "discriminator.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("rank", [None, 1])
def test_sigterm_to_all_or_to_one_process_writes_a_checkpoint_and_says_how_to_resume(
    rank: int | None, write: Callable[..., Params], start: Callable[..., Any], tmp_path: Path
) -> None:
    write(**NORM_FREE, epochs=50, eval_interval=27_000)
    launcher = start()
    wait_for_sample(launcher, tmp_path, "0000003*")
    os.kill(launcher.pid if rank is None else workers(launcher.pid)[rank], signal.SIGTERM)
    began = time.monotonic()
    output, _ = launcher.communicate()
    assert time.monotonic() - began < 30
    assert output.count("to resume: torchrun --nproc-per-node=2 -m facegan train") == 1
    (path,) = (tmp_path / "out-checkpoints").glob("*/checkpoint.pt")
    assert load_checkpoint(path, CPU)["images_seen"] > 3000


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_signal_to_one_process_ends_a_quick_fid_in_all(
    write: Callable[..., Params], start: Callable[..., Any], tmp_path: Path
) -> None:
    """The first quick FID, of more images than the test could wait for."""
    write(**NORM_FREE, quick_num_samples=1_000_000)
    launcher = start()
    while not list((tmp_path / "out-checkpoints").glob("*/checkpoint.pt")):
        assert launcher.poll() is None
        time.sleep(0.05)
    time.sleep(1)
    os.kill(workers(launcher.pid)[1], signal.SIGTERM)
    began = time.monotonic()
    output, _ = launcher.communicate()
    assert time.monotonic() - began < 30
    assert output.count("facegan: stopped at 0 of 540 images seen") == 1
    (path,) = (tmp_path / "out-checkpoints").glob("*/checkpoint.pt")
    assert load_checkpoint(path, CPU)["score_due"]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_parts_partition_a_batch(size: int) -> None:
    indices = list(range(20))
    parts = [indices[Group(rank, size).part(20)] for rank in range(size)]
    assert [index for part in parts for index in part] == indices
    assert len({len(part) for part in parts}) == 1


def test_collectives_of_a_single_process_are_no_ops() -> None:
    ones = torch.ones(3)
    SINGLE.all_reduce_mean([ones])
    SINGLE.require_same("00ff")
    state = {"images_seen": 1, "weights": ones}
    assert SINGLE.broadcast(state, CPU) is state
    assert SINGLE.all_reduce_max(3) == 3
    assert SINGLE.any(True) and not SINGLE.any(False)
    assert torch.equal(ones, torch.ones(3))
    with process_group(CPU) as group:
        assert group is SINGLE


def test_several_processes_on_mps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(FaceganError, match="mps"), process_group(torch.device("mps")):
        pass
