"""NaN, collapse, patience, signals, out of memory, a full disk."""

import errno
import hashlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from facegan.core import pictures
from facegan.core.errors import FaceganError, Interrupted
from facegan.core.events import Message
from facegan.core.history import read_history
from facegan.features.extraction import Extraction
from facegan.models.sampling import NotFinite
from facegan.params import Params
from facegan.train import trainer
from facegan.train.checkpoint import load_checkpoint
from facegan.train.gan_state import GANState
from facegan.train.monitor import Monitor
from facegan.train.stage import train
from samples import digests

MakeParams = Callable[..., Params]
STEP = GANState.train_step


@pytest.fixture(name="run")
def make_run(
    dataset: Path, references: tuple[Path, Path], params: MakeParams, tmp_path: Path
) -> Callable[..., tuple[list[dict[str, Any]], list[str]]]:
    """Train, and return the history and the messages."""

    def run(out: str = "out", **options: Any) -> tuple[list[dict[str, Any]], list[str]]:
        settings, events = params(train=options), list[Any]()
        train(
            dataset, references[0], tmp_path / out, settings.train, settings.seed,
            torch.device("cpu"), tmp_path / f"checkpoints of {out}", events.append,
        )  # fmt: skip
        texts = [event.text for event in events if isinstance(event, Message)]
        return read_history(tmp_path / out / "history.jsonl"), texts

    return run


def poison(monkeypatch: pytest.MonkeyPatch, at: set[int]) -> None:
    """Set weights to NaN at these steps, counted over all trainings of the test."""
    count = 0

    def step(self: GANState, images: Tensor) -> Tensor:
        nonlocal count
        metrics = STEP(self, images)
        if count in at:
            with torch.no_grad():
                next(self.generator.parameters()).select(0, 0).fill_(float("nan"))
        count += 1
        return metrics

    monkeypatch.setattr(GANState, "train_step", step)


def events_of(kind: str, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == kind]


def test_nan_rolls_back_to_the_checkpoint_with_other_latents(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digests = []
    for name in ("one", "two"):
        poison(monkeypatch, {15, 20})  # after the checkpoint at 280
        lines, texts = run(name)
        digests.append(hashlib.sha256((tmp_path / name / "generator.safetensors").read_bytes()))
    rollbacks = [{"event": "rollback", "images_seen": 280, "attempt": n} for n in (1, 2)]
    assert events_of("rollback", lines) == rollbacks
    assert any("NaN" in text and "back to 280" in text for text in texts)
    assert digests[0].hexdigest() == digests[1].hexdigest()
    seen = [line["images_seen"] for line in events_of("losses", lines)]
    assert seen == sorted(set(seen))  # none twice


def test_after_three_rollbacks_the_best_generator_is_handed_over(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, set(range(15, 10_000)))
    lines, texts = run()
    assert [line["attempt"] for line in events_of("rollback", lines)] == [1, 2, 3]
    end = {"event": "end", "images_seen": 280, "of": 540, "reason": "NaN"}
    assert lines[-1] == end
    assert any("NaN or infinite" in text and "lower train.lr" in text for text in texts)
    best = min(events_of("score", lines), key=lambda line: line["quick_fid"])["images_seen"]
    assert f"280 of 540 images seen (NaN); the best generator is that of {best:,}" in texts[-2]
    assert {"generator.safetensors", "evolution.gif"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }


def test_after_three_rollbacks_to_the_untrained_networks_nothing_is_handed_over(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    poison(monkeypatch, set(range(5, 10_000)))
    with pytest.raises(FaceganError, match=r"NaN or infinite .* 3 rollbacks; lower train\.lr"):
        run()
    assert not (tmp_path / "out").exists()


def test_images_that_overflow_roll_back_too(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, calls = Monitor.sample, 0

    def overflow(self: Monitor, network: nn.Module) -> tuple[pictures.Pixels, float]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise NotFinite
        return sample(self, network)

    monkeypatch.setattr(Monitor, "sample", overflow)
    lines, _ = run()
    assert len(events_of("rollback", lines)) == 1
    assert events_of("score", lines)[-1]["images_seen"] == 540


@pytest.mark.parametrize("on_collapse", ["warn", "stop"])
def test_a_discriminator_that_always_wins_is_a_collapse(
    on_collapse: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def win(self: GANState, images: Tensor) -> Tensor:
        return STEP(self, images) * torch.tensor([1, 1, 0]) + torch.tensor([0, 0, 1])

    monkeypatch.setattr(GANState, "train_step", win)
    lines, texts = run(on_collapse=on_collapse)
    collapses = events_of("collapse", lines)
    assert all("accuracy is 100.00%" in line["reason"] for line in collapses)
    assert [line["images_seen"] for line in collapses][:1] == [280]
    assert len(collapses) == (1 if on_collapse == "stop" else 2)
    assert sum(text.startswith("collapse: ") for text in texts) == 1  # the same only once
    last = events_of("score", lines)[-1]["images_seen"]
    assert last == (280 if on_collapse == "stop" else 540)
    assert any("stopped early, at 280 of 540" in text for text in texts) == (on_collapse == "stop")


def test_a_last_batch_that_is_all_right_is_no_collapse(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter([0.5] * 13 + [1.0] * 2 + [0.5] * 20)

    def half_right(self: GANState, images: Tensor) -> Tensor:
        return STEP(self, images) * torch.tensor([1, 1, 0]) + torch.tensor([0, 0, next(accuracies)])

    monkeypatch.setattr(GANState, "train_step", half_right)
    lines, _ = run(eval_interval=280)
    records = [line for line in events_of("losses", lines) if line["images_seen"] <= 280]
    assert records[-1]["accuracy"] == 1  # of the two batches before the score
    assert not [line for line in events_of("collapse", lines) if "accuracy" in line["reason"]]


def test_samples_without_diversity_are_a_collapse(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = np.zeros((8, 8, 1), np.uint8)
    monkeypatch.setattr(Monitor, "sample", lambda self, network: (grid, 0.01))
    lines, _ = run()
    assert "diversity of samples is 1.0%" in events_of("collapse", lines)[0]["reason"]
    assert all(line["images_seen"] > 0 for line in events_of("collapse", lines))


def test_a_quick_fid_over_twice_the_best_is_a_collapse(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fids = iter([50.0, 10.0, 20.0, 46.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(Monitor, "quick_fid", lambda *_: next(fids))
    lines, texts = run(eval_interval=100)
    noted = {line["images_seen"]: line["reason"] for line in events_of("collapse", lines)}
    reason = "the quick FID of 46.0 is 4.6 times the best"
    assert [seen for seen, text in noted.items() if "quick FID" in text] == [300]
    assert reason in noted[300] and any(reason in text for text in texts)


def test_a_message_says_that_the_quick_fid_is_not_comparable_with_published_fids(
    run: Callable[..., tuple[list[dict[str, Any]], list[str]]],
) -> None:
    lines, texts = run(eval_interval=540)
    assert f"{lines[0]['quick_fid']} is not comparable with published FIDs" in texts


def test_patience_stops_a_training_that_does_not_improve(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Monitor, "quick_fid", lambda *_: 5.0)
    lines, texts = run(patience=1, eval_interval=100)
    assert [line["images_seen"] for line in events_of("score", lines)] == [0, 100]
    assert any("stopped early, at 100 of 540" in text for text in texts)
    assert lines[-1] == {"event": "end", "images_seen": 100, "of": 540, "reason": "patience"}


def test_out_of_memory_names_the_params_to_lower(
    run: Callable[..., Any],
) -> None:
    with pytest.raises(FaceganError, match=r"out of memory .*; lower train\.batch_size or train"):
        run(base_channels=65_536)


def test_another_runtime_error_is_not_out_of_memory(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: GANState, images: Tensor) -> Tensor:
        raise RuntimeError("a bug")

    monkeypatch.setattr(GANState, "train_step", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        run()


def test_a_full_disk_keeps_the_last_checkpoint(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A limit on file sizes stands for the full disk, from the checkpoint at 200 images seen on."""
    save = trainer.Trainer._save
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    saves = 0

    def limited(self: trainer.Trainer) -> None:
        nonlocal saves
        saves += 1
        if saves == 5:  # two per score
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
        save(self)

    monkeypatch.setattr(trainer.Trainer, "_save", limited)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match="too large"):
            run(eval_interval=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    monkeypatch.setattr(trainer.Trainer, "_save", save)
    lines, texts = run(eval_interval=100)
    assert "resuming from 100 of 540 images seen" in texts[0]
    assert events_of("score", lines)[-1]["images_seen"] == 540


def test_a_signal_during_a_quick_fid_ends_it_and_loses_nothing(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("whole", quick_num_samples=220)
    extracted = list[int]()
    extract = Extraction.__call__

    def send(self: Extraction, images: Tensor) -> Tensor:
        extracted.append(len(images))
        if len(extracted) == 7:  # the second batch of the second quick FID, at 280 images seen
            os.kill(os.getpid(), signal.SIGTERM)
        return extract(self, images)

    monkeypatch.setattr(Extraction, "__call__", send)
    with pytest.raises(Interrupted, match=r"stopped at 280 of 540 images seen; .*FACEGAN_FINISH=1"):
        run(quick_num_samples=220)
    assert len(extracted) == 7
    _, texts = run(quick_num_samples=220)
    assert texts[0] == "resuming from 280 of 540 images seen"
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_second_signal_stops_at_once_and_keeps_the_last_checkpoint(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def step(self: GANState, images: Tensor) -> Tensor:
        if self.steps == 20:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return STEP(self, images)

    monkeypatch.setattr(GANState, "train_step", step)
    with pytest.raises(Interrupted, match="stopped at once; the last checkpoint stays"):
        run()
    (path,) = (tmp_path / "checkpoints of out").glob("*/checkpoint.pt")
    assert load_checkpoint(path, torch.device("cpu"))["images_seen"] == 280


def full(*arguments: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_pictures_that_cannot_be_written_are_one_message_and_end_nothing(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pictures, "save_picture", full)
    lines, texts = run()
    assert sum("not written (No space left on device)" in text for text in texts) == 1
    assert events_of("samples", lines) and not any("picture" in line for line in lines)
    assert events_of("score", lines)[-1]["images_seen"] == 540
    assert (tmp_path / "out" / "generator.safetensors").exists()


def test_a_failing_animation_is_a_message_and_networks_are_written_before(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = list[bool]()

    def animate(frames: list[Path], path: Path) -> None:
        found.append((tmp_path / "out" / "generator.safetensors").exists())
        raise MemoryError

    monkeypatch.setattr(pictures, "save_animation", animate)
    _, texts = run()
    assert found == [True] and texts[-1].startswith("evolution.gif: not written (MemoryError)")
    assert not (tmp_path / "out" / "evolution.gif").exists()
