"""The training: its outputs, and that an interruption does not change them."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import make_params
from facegan.core.errors import FaceganError, Interrupted
from facegan.core.events import Message, Progress
from facegan.core.history import best_score, read_history, scores
from facegan.data.dataset import load_images
from facegan.models.files import load_generator
from facegan.params import Params
from facegan.train.checkpoint import load_checkpoint
from facegan.train.retention import list_runs
from facegan.train.stage import train
from filesystems import without_locks
from samples import digests

MakeParams = Callable[..., Params]
CPU = torch.device("cpu")


@pytest.fixture(name="run")
def make_run(
    dataset: Path, references: tuple[Path, Path], device: torch.device, tmp_path: Path
) -> Callable[..., Path]:
    def run(params: Params, name: str = "out", **options: Any) -> Path:
        out = tmp_path / name
        checkpoints = options.pop("checkpoints", tmp_path / "checkpoints")
        train(
            options.pop("data", dataset), references[0], out, params.train, params.seed, device,
            checkpoints, **options,
        )  # fmt: skip
        return out

    return run


@pytest.fixture(scope="module")
def finished(
    dataset: Path, references: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Path]:
    """Uninterrupted trainings of one and of two epochs: for each, a folder with `out` and
    `checkpoints`."""
    folders = {}
    for epochs in (1, 2):
        folder = folders[epochs] = tmp_path_factory.mktemp("finished")
        params = make_params(train={"epochs": epochs})
        train(
            dataset, references[0], folder / "out", params.train, params.seed, torch.device("cpu"),
            folder / "checkpoints",
        )  # fmt: skip
    return folders


class PowerFailure(Exception):
    pass


def stop_at(images_seen: int) -> Callable[[Any], None]:
    """An on_event that ends a training without a checkpoint."""

    def on_event(event: Any) -> None:
        if isinstance(event, Progress) and event.done >= images_seen:
            raise PowerFailure

    return on_event


def collect(messages: list[str]) -> Callable[[Any], None]:
    """An on_event that collects the messages."""
    return lambda event: messages.append(event.text) if isinstance(event, Message) else None


def test_leaves_networks_history_samples_plots_and_film(
    finished: dict[int, Path], device: torch.device
) -> None:
    out = finished[1] / "out"
    events = read_history(out / "history.jsonl")
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start" and kinds.count("score") == 3 and "losses" in kinds
    generator = load_generator(out / "generator.safetensors", device)
    assert (generator.size, generator.channels, generator.latent_dim) == (32, 1, 100)
    pictures = [event["picture"] for event in events if event["event"] == "samples"]
    assert sorted(p.name for p in (out / "samples").iterdir()) == [Path(p).name for p in pictures]
    assert (out / "evolution.gif").exists() and (out / "discriminator.safetensors").exists()
    scores = (out / "quick_fid.csv").read_text().splitlines()
    assert scores[0] == "images_seen,quick_fid" and len(scores) == 4


def test_keeps_the_generator_of_the_best_snapshot(
    finished: dict[int, Path], device: torch.device
) -> None:
    events = read_history(finished[2] / "out" / "history.jsonl")
    scores = [event for event in events if event["event"] == "score"]
    best = min(scores, key=lambda event: event["quick_fid"])
    checkpoint = next((finished[2] / "checkpoints").glob("*/checkpoint.pt"))
    state = load_checkpoint(checkpoint, device)
    assert round(state["best"]["quick_fid"], 6) == best["quick_fid"]
    saved = load_generator(finished[2] / "out" / "generator.safetensors", device).state_dict()
    assert all(torch.equal(saved[k], v) for k, v in state["best"]["generator"].items())


def test_the_number_of_steps_and_what_to_expect_are_said_before_the_first_step(
    run: Callable[..., Path], dataset: Path
) -> None:
    said: list[str] = []

    def stop_at_first_step(event: Any) -> None:
        if isinstance(event, Progress):
            raise PowerFailure
        if isinstance(event, Message):
            said.append(event.text)

    with pytest.raises(PowerFailure):
        run(make_params(), on_event=stop_at_first_step)
    images = len(load_images(dataset))
    assert said[0].startswith(f"{images // 20} steps of 20 images")
    assert "too few for anything but noise" in said[0]


def test_outputs_depend_on_data_params_and_seed_alone(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path]
) -> None:
    first, messages = digests(finished[1] / "out"), list[str]()
    assert digests(run(params(), on_event=collect(messages))) == first
    assert sum("the quick FID took" in text for text in messages) == 1
    other = digests(run(params(seed=1), "other"))
    assert other.keys() == first.keys() and not set(other.values()) & set(first.values())


@pytest.mark.parametrize(
    "images_seen",
    [pytest.param(20, marks=pytest.mark.faults), 280, pytest.param(520, marks=pytest.mark.faults)],
)
def test_a_resumed_training_ends_with_the_same_bytes(
    images_seen: int,
    run: Callable[..., Path],
    params: MakeParams,
    finished: dict[int, Path],
    tmp_path: Path,
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(images_seen))
    assert not (tmp_path / "out").exists()
    assert digests(run(params())) == digests(finished[1] / "out")


def test_more_epochs_resume_a_finished_training(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1] / "checkpoints", tmp_path / "checkpoints")
    messages: list[str] = []
    longer = run(params(train={"epochs": 2}), on_event=collect(messages))
    assert "resuming from 540 of" in messages[0]
    assert digests(longer) == digests(finished[2] / "out")


@pytest.mark.faults
def test_more_epochs_resume_a_training_that_ended_between_two_intervals(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    """Such a training has a last score that a longer one does not have."""
    one, two = (params(train={"eval_interval": 400, "epochs": epochs}) for epochs in (1, 2))
    run(one)
    assert digests(run(two)) == digests(run(two, "whole", checkpoints=tmp_path / "other"))


def fresh_copy(finished: dict[int, Path], epochs: int, tmp_path: Path) -> Path:
    """The folder of a finished training, in `tmp_path / "checkpoints"`."""
    shutil.copytree(finished[epochs] / "checkpoints", tmp_path / "checkpoints")
    (folder,) = (tmp_path / "checkpoints").iterdir()
    return folder


def changed(folder: Path, **values: Any) -> None:
    """As if the training in `folder` had begun with other values in its identity."""
    path = folder / "fingerprint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_finished_training_is_exported_again_without_a_step(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    folder = fresh_copy(finished, 1, tmp_path)
    messages: list[str] = []
    out = run(params(), on_event=lambda event: (collect(messages)(event), stop_at(0)(event)))
    assert digests(out) == digests(finished[1] / "out")
    text = f"finished already in {folder}; exported again; to train anew, delete that folder"
    assert messages == [text]


def test_a_finished_training_is_exported_again_elsewhere(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    folder = fresh_copy(finished, 1, tmp_path)
    changed(folder, torch="2.13", threads=8)
    folder.rename(folder.with_name("elsewhere"))
    messages: list[str] = []
    out = run(params(), on_event=lambda event: (collect(messages)(event), stop_at(0)(event)))
    assert digests(out) == digests(finished[1] / "out")
    assert f"(torch is {torch.__version__}, was 2.13, threads is 1, was 8)" in messages[0]


def test_a_finished_training_whose_networks_are_damaged_is_exported_from_its_checkpoint(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    folder = fresh_copy(finished, 1, tmp_path)
    (folder / "generator.safetensors").write_bytes(b"damaged")
    assert digests(run(params())) == digests(finished[1] / "out")


def test_an_interrupted_training_that_had_finished_earlier_is_unfinished(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    """So that the budget of finished trainings does not take it."""
    fresh_copy(finished, 1, tmp_path)
    with pytest.raises(PowerFailure):
        run(params(train={"epochs": 2}), on_event=stop_at(900))
    (entry,) = list_runs(tmp_path / "checkpoints")
    assert entry.state == "unfinished"


def test_other_params_start_from_scratch_with_both_values_and_the_command_to_resume(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(300))
    (folder,) = (tmp_path / "checkpoints").iterdir()
    messages: list[str] = []
    with pytest.raises(PowerFailure):
        run(
            params(train={"lr": 0.002}),
            on_event=lambda event: (collect(messages)(event), stop_at(0)(event)),
            command="dvc repro",
        )
    assert messages[0] == (
        f"starting from scratch: train.lr is 0.002, was 0.001 in {folder}, which is kept, "
        "unfinished at 280 images seen; to resume it, set train.lr: 0.001 in params.yaml and run: "
        f"FACEGAN_RESUME={folder} dvc repro"
    )
    assert (folder / "checkpoint.pt").exists()


def test_a_shorter_run_keeps_a_training_that_was_stopped_before_its_first_record(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    def stop(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 800:
            signal.raise_signal(signal.SIGTERM)

    long = {"epochs": 2, "eval_interval": 100_000}
    with pytest.raises(Interrupted):
        run(params(train=long), on_event=stop)
    (entry,) = list_runs(tmp_path / "checkpoints")
    assert (entry.images_seen, entry.state) == (800, "unfinished")
    before, messages = (entry.folder / "checkpoint.pt").read_bytes(), list[str]()
    run(params(train={**long, "epochs": 1}), on_event=collect(messages))
    assert messages[0].startswith(f"{entry.folder}: has seen 800 images, more than the 540 of")
    assert (entry.folder / "checkpoint.pt").read_bytes() == before
    run(params(train={**long, "epochs": 1, "eval_interval": 50_000}))  # learns the same
    assert (entry.folder / "checkpoint.pt").read_bytes() == before


def test_a_training_resumes_elsewhere_with_one_warning_that_its_history_keeps(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(300))
    (folder,) = (tmp_path / "checkpoints").iterdir()
    changed(folder, threads=8, torch="2.13")
    folder = folder.rename(folder.with_name("elsewhere"))
    messages: list[str] = []
    with pytest.raises(PowerFailure):
        run(params(), on_event=lambda event: (collect(messages)(event), stop_at(320)(event)))
    warning = (
        f"torch is {torch.__version__}, was 2.13, threads is 1, was 8: the outputs will not be"
    )
    assert [text.startswith(warning) for text in messages[:2]] == [True, False]
    assert "resuming from 280 of" in messages[1]
    again: list[str] = []
    out = run(params(), on_event=collect(again))
    assert "resuming from 280 of" in again[0]
    history, whole = (read_history(f / "history.jsonl") for f in (out, finished[1] / "out"))
    (event,) = (event for event in history if event["event"] == "resume")
    assert event["changed"] == {"torch": ["2.13", torch.__version__], "threads": [8, 1]}
    assert event["images_seen"] == 280 and [e for e in history[1:] if e != event] == whole[1:]
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["elsewhere"]


def test_another_interval_resumes_and_learns_the_same(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(300))
    (folder,) = (tmp_path / "checkpoints").iterdir()
    messages: list[str] = []
    out = run(params(train={"eval_interval": 100}), on_event=collect(messages))
    assert messages[0].startswith("train.eval_interval is 100, was 270: the outputs will not be")
    events = read_history(out / "history.jsonl")
    assert events[0] == read_history(finished[1] / "out" / "history.jsonl")[0]  # as it began
    scores = [event["images_seen"] for event in events if event["event"] == "score"]
    assert scores == [0, 280, 300, 400, 500, 540]
    (whole,) = (finished[1] / "checkpoints").iterdir()
    first, second = (load_checkpoint(f / "checkpoint.pt", CPU)["trainer"] for f in (folder, whole))
    for name in ("generator", "discriminator", "ema"):
        assert all(torch.equal(first[name][key], value) for key, value in second[name].items())


def test_another_number_of_samples_resumes_and_scores_the_best_snapshot_again(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(300))
    out = run(params(train={"quick_num_samples": 60}))
    events = read_history(out / "history.jsonl")
    (event,) = (event for event in events if event["event"] == "resume")
    assert event["changed"] == {"train.quick_num_samples": [40, 60]}
    name, comparable = scores(events)
    assert name == event["quick_fid"] == events[0]["quick_fid"].replace("fid40", "fid60")
    before = [e for e in events if e["event"] == "score" and e["images_seen"] <= 280]
    best = min(before, key=lambda e: e["quick_fid"])
    assert event["best"]["images_seen"] == best["images_seen"]
    assert event["best"]["quick_fid"] != best["quick_fid"]
    assert [e["images_seen"] for e in comparable] == [best["images_seen"], 540]
    assert best_score(events)["quick_fid"] == min(e["quick_fid"] for e in comparable)


def test_other_code_starts_from_scratch_unless_the_folder_is_named(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(300))
    (folder,) = (tmp_path / "checkpoints").iterdir()
    changed(folder, code="0" * 64)
    folder = folder.rename(folder.with_name("old"))
    messages: list[str] = []
    with pytest.raises(PowerFailure):
        run(params(), on_event=lambda event: (collect(messages)(event), stop_at(0)(event)))
    assert "starting from scratch: code is " in messages[0]
    assert f"run: FACEGAN_RESUME={folder} facegan train" in messages[0]
    out = run(params(), resume=folder)
    (event,) = (e for e in read_history(out / "history.jsonl") if e["event"] == "resume")
    assert event["changed"]["code"][0] == "0" * 64


def test_a_shorter_run_keeps_the_longer_training(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[2] / "checkpoints", tmp_path / "checkpoints")
    (longer,) = (tmp_path / "checkpoints").iterdir()
    before = digests(longer)
    messages: list[str] = []
    out = run(params(train={"epochs": 1}), on_event=collect(messages))
    assert digests(out) == digests(finished[1] / "out")
    assert digests(longer).items() >= before.items()
    assert messages[0].startswith(f"{longer}: has seen 1,080 images, more than the 540 of")
    assert digests(run(params(train={"epochs": 2}), "again")) == digests(finished[2] / "out")


def test_a_longer_training_is_not_resumed_to_fewer_epochs(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[2] / "checkpoints", tmp_path / "checkpoints")
    (longer,) = (tmp_path / "checkpoints").iterdir()
    with pytest.raises(FaceganError, match=r"1,080 images, more than .* train\.epochs: 1; raise"):
        run(params(train={"epochs": 1}), resume=longer)


def test_a_training_that_is_running_is_not_started_again(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    """The second one runs in the middle of the first, which its lock keeps whole."""
    refused: list[str] = []

    def start_again(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 300:
            with pytest.raises(FaceganError, match="this training is running already") as error:
                run(params(), "second")
            refused.append(str(error.value))

    out = run(params(), on_event=start_again)
    assert len(refused) == 1
    seen = [e["images_seen"] for e in read_history(out / "history.jsonl") if "images_seen" in e]
    assert seen == sorted(seen)


def test_unfinished_trainings_outlive_many_others(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(280))
    (unfinished,) = (tmp_path / "checkpoints").iterdir()
    for seed in range(1, 7):
        with pytest.raises(PowerFailure):
            run(params(seed=seed), on_event=stop_at(0))
    assert (unfinished / "checkpoint.pt").exists()


def test_finished_trainings_go_by_their_size(
    run: Callable[..., Path], params: MakeParams, finished: dict[int, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished[1] / "checkpoints", tmp_path / "checkpoints")
    (old,) = (tmp_path / "checkpoints").iterdir()
    for budget, exists in ((10**9, True), (0, False)):
        messages: list[str] = []

        def on_event(event: Any, messages: list[str] = messages) -> None:
            collect(messages)(event)
            stop_at(0)(event)

        with pytest.raises(PowerFailure):
            run(params(seed=1), on_event=on_event, budget=budget)
        assert old.exists() == exists
        assert any(text.startswith(f"{old}: deleted") for text in messages) != exists


@pytest.mark.faults
def test_after_a_signal_the_same_command_resumes(
    params: MakeParams,
    dataset: Path,
    references: tuple[Path, Path],
    finished: dict[int, Path],
    store: Path,
    tmp_path: Path,
) -> None:
    import yaml

    file, out = tmp_path / "params.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(params(train={"epochs": 2}).model_dump(by_alias=True)))
    command = [sys.executable, "-m", "facegan", "train", dataset, references[0], out]
    command += ["--params", file, "--checkpoints", tmp_path / "checkpoints"]
    child = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    histories = tmp_path / "checkpoints"
    while not any(len(h.read_text().splitlines()) > 5 for h in histories.glob("*/history.jsonl")):
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1 and "to resume: facegan train" in errors.splitlines()[-1]
    assert not out.exists()
    # What ends it there does not keep it from resuming later.
    for variables in ({"FACEGAN_FINISH": "1"}, {}):
        environment = os.environ | variables
        subprocess.run(list(map(str, command)), check=True, capture_output=True, env=environment)
        last = read_history(out / "history.jsonl")[-1]
        assert (last.get("reason") == "finish") == bool(variables)
    assert digests(out) == digests(finished[2] / "out")


@pytest.mark.parametrize("images_seen", [20, 300])
def test_an_unfinished_training_can_be_finished_with_its_best_generator(
    images_seen: int,
    run: Callable[..., Path],
    params: MakeParams,
    device: torch.device,
    tmp_path: Path,
) -> None:
    with pytest.raises(PowerFailure):
        run(params(), on_event=stop_at(images_seen))
    messages: list[str] = []
    out = run(params(), finish=True, on_event=collect(messages))
    events = read_history(out / "history.jsonl")
    checkpoint = 280 if images_seen > 280 else 0
    assert events[-1] == {
        "event": "end", "images_seen": checkpoint, "of": 540, "reason": "finish"
    }  # fmt: skip
    assert any(f"stopped early, at {checkpoint} of 540 images seen" in text for text in messages)
    assert not any("the quick FID took" in text for text in messages)  # all of it, here
    scores = [event for event in events if event["event"] == "score"]
    best = min(scores, key=lambda event: event["quick_fid"])["images_seen"]
    (folder,) = (tmp_path / "checkpoints").iterdir()
    state = load_checkpoint(folder / "checkpoint.pt", device)["best"]
    assert state["images_seen"] == best
    saved = load_generator(out / "generator.safetensors", device).state_dict()
    assert all(torch.equal(saved[k], v) for k, v in state["generator"].items())
    assert (out / "losses.csv").exists() and (out / "evolution.gif").exists()


def test_a_training_finished_between_two_scores_is_scored_once_more(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    """Its outputs are those of a training of that length."""

    def send(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 540:
            os.kill(os.getpid(), signal.SIGINT)

    settings = {"eval_interval": 400}
    with pytest.raises(Interrupted):
        run(params(train={"epochs": 2, **settings}), on_event=send)
    ended = run(params(train={"epochs": 2, **settings}), finish=True)
    whole = run(params(train=settings), "whole", checkpoints=tmp_path / "other")
    for name in ("generator.safetensors", "quick_fid.csv", "losses.csv", "evolution.gif"):
        assert digests(ended)[name] == digests(whole)[name]


def test_without_a_checkpoint_there_is_nothing_to_finish(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    with pytest.raises(FaceganError, match="no checkpoint of a training with these data, params"):
        run(params(), finish=True)
    assert not (tmp_path / "out").exists()


def test_nan_stops_with_advice(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    with pytest.raises(FaceganError, match=r"NaN or infinite .* 3 rollbacks; lower train\.lr"):
        run(params(train={"lr": 1e30}))
    assert not (tmp_path / "out").exists()


def test_an_unsupported_image_size_is_refused(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    np.save(folder / "images.npy", np.zeros((40, 48, 48, 1), dtype=np.uint8))
    sha256 = hashlib.sha256((folder / "images.npy").read_bytes()).hexdigest()
    (folder / "dataset.json").write_text(json.dumps({"sha256": sha256}))
    with pytest.raises(FaceganError, match="squares of 28, 32, 64, 128 pixels"):
        run(params(), data=folder)


def repacked(dataset: Path, tmp_path: Path, part: str) -> Path:
    """The dataset with other photographs in one part."""
    folder = shutil.copytree(dataset, tmp_path / "repacked")
    images = 255 - np.load(folder / f"{part}.npy")
    np.save(folder / f"{part}.npy", images)
    record = folder / ("dataset.json" if part == "images" else "holdout.json")
    sha256 = hashlib.sha256((folder / f"{part}.npy").read_bytes()).hexdigest()
    record.write_text(json.dumps({**json.loads(record.read_text()), "sha256": sha256}))
    return folder


@pytest.mark.parametrize("part", ["images", "holdout"])
def test_statistics_of_another_dataset_are_refused(
    part: str, run: Callable[..., Path], params: MakeParams, dataset: Path, tmp_path: Path
) -> None:
    folder = repacked(dataset, tmp_path, part)
    message = f"different dataset than {folder}; run again: dvc repro reference .{part}.npy was"
    with pytest.raises(FaceganError, match=message):
        run(params(), data=folder)
    assert not (tmp_path / "checkpoints").exists()


def test_statistics_of_other_settings_are_refused(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    settings = params(reference={"quick": {"input_size": 64}}).reference.quick
    with pytest.raises(FaceganError, match=r"input_size is 32, expected 64; run again: dvc repro"):
        run(params(), requested=settings)
    run(params(), requested=params().reference.quick, on_event=lambda event: None)


@pytest.mark.parametrize("out", ["file", "file/below", "checkpoints/..", "dataset"])
def test_an_unusable_output_is_refused_before_the_training(
    out: str, run: Callable[..., Path], params: MakeParams, dataset: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dataset").symlink_to(dataset)
    before = digests(dataset)
    expected = {
        "file": "is a file, expected a folder",
        "file/below": r"cannot be written to \(Not a directory",
        "dataset": "was not written by this stage",
    }
    with pytest.raises(FaceganError, match=expected.get(out, "checkpoints|stage")):
        run(params(), out, on_event=stop_at(0))
    assert digests(dataset) == before and not (tmp_path / "checkpoints").exists()


def test_checkpoints_in_the_output_are_refused(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    """The output folder is replaced at the end, with all that is in it."""
    with pytest.raises(FaceganError, match="checkpoints: is in the output"):
        run(params(), checkpoints=tmp_path / "out" / "checkpoints", on_event=stop_at(0))


def test_checkpoints_that_cannot_be_written_are_refused(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FaceganError, match=r"file: cannot be written to \(Not a directory"):
        run(params(), checkpoints=tmp_path / "file", on_event=stop_at(0))


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_training_never_writes_through_links_into_a_cache(
    link: str,
    run: Callable[..., Path],
    params: MakeParams,
    finished: dict[int, Path],
    tmp_path: Path,
) -> None:
    """As DVC leaves outputs and, after `dvc add checkpoints`, a training's folder."""
    cache = shutil.copytree(finished[1], tmp_path / "cache")
    before = digests(cache)
    for path in filter(Path.is_file, cache.rglob("*")):
        path.chmod(0o444)
        copy = tmp_path / path.relative_to(cache)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(path) if link == "symbolic" else copy.hardlink_to(path)
    run(params(train={"epochs": 2}))
    assert digests(cache) == before
    assert digests(tmp_path / "out") == digests(finished[2] / "out")


def test_a_batch_larger_than_the_dataset_is_refused(
    run: Callable[..., Path], params: MakeParams
) -> None:
    with pytest.raises(FaceganError, match=r"train\.batch_size: 5000"):
        run(params(train={"batch_size": 5000, "eval_interval": 5000}))


def test_the_fingerprint_covers_the_code_deps_of_the_stage() -> None:
    import yaml

    from facegan.train.stage import WINGS

    deps = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())
    code = [dep for dep in deps["stages"]["train"]["deps"] if dep.startswith("src/")]
    assert code == [f"src/facegan/{wing}" for wing in WINGS]


def test_an_output_folder_with_other_files_is_refused_before_the_training(
    run: Callable[..., Path], params: MakeParams, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(FaceganError, match="was not written by this stage"):
        run(params(), on_event=stop_at(0))
    assert (tmp_path / "out" / "thesis.tex").exists()


def test_a_file_system_without_locks_is_one_message_and_changes_nothing_else(
    run: Callable[..., Path],
    params: MakeParams,
    finished: dict[int, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_locks(monkeypatch)
    messages = list[str]()
    out = run(params(), on_event=collect(messages))
    assert digests(out) == digests(finished[1] / "out")
    assert sum("has no locks, so start this training only once" in text for text in messages) == 1
