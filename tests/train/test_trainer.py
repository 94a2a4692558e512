"""NaN, collapse, patience, out of memory, a full disk."""

import hashlib
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facegan.core.errors import FaceganError
from facegan.core.events import Message
from facegan.core.history import read_history
from facegan.params import Params
from facegan.train import trainer
from facegan.train.gan_state import GANState
from facegan.train.stage import train

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
    assert events_of("rollback", lines)[-1] == rollbacks[-1]
    assert any("NaN" in text and "back to 280" in text for text in texts)
    assert digests[0].hexdigest() == digests[1].hexdigest()
    seen = [line["images_seen"] for line in events_of("losses", lines)]
    assert seen == sorted(set(seen))  # none twice


def test_a_training_ends_after_three_rollbacks(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, set(range(15, 10_000)))
    with pytest.raises(FaceganError, match=r"NaN or infinite .* 3 rollbacks; lower train\.lr"):
        run()


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
    assert any(text.startswith("collapse: ") for text in texts)
    last = events_of("score", lines)[-1]["images_seen"]
    assert last == (280 if on_collapse == "stop" else 540)
    assert any("stopped early, at 280 of 540" in text for text in texts) == (on_collapse == "stop")


def test_samples_without_diversity_are_a_collapse(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facegan.train.monitor.Monitor.save_samples", fixed(0.01))
    lines, _ = run()
    assert "diversity of samples is 1.0%" in events_of("collapse", lines)[0]["reason"]
    assert all(line["images_seen"] > 0 for line in events_of("collapse", lines))


def test_a_quick_fid_over_twice_the_best_is_a_collapse(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fids = iter([50.0, 10.0, 20.0, 46.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr("facegan.train.monitor.Monitor.quick_fid", lambda self, network: next(fids))
    lines, texts = run(eval_interval=100)
    noted = {line["images_seen"]: line["reason"] for line in events_of("collapse", lines)}
    reason = "the quick FID of 46.0 is 4.6 times the best"
    assert [seen for seen, text in noted.items() if "quick FID" in text] == [300]
    assert reason in noted[300] and any(reason in text for text in texts)


def fixed(diversity: float) -> Callable[..., float]:
    def draw(self: Any, network: Any, path: Path) -> float:
        from PIL import Image

        Image.new("L", (8, 8)).save(path)
        return diversity

    return draw


def test_a_message_says_that_the_quick_fid_is_not_comparable_with_published_fids(
    run: Callable[..., tuple[list[dict[str, Any]], list[str]]],
) -> None:
    lines, texts = run(eval_interval=540)
    assert f"{lines[0]['quick_fid']} is not comparable with published FIDs" in texts


def test_patience_stops_a_training_that_does_not_improve(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facegan.train.monitor.Monitor.quick_fid", lambda self, network: 5.0)
    lines, texts = run(patience=1, eval_interval=100)
    assert [line["images_seen"] for line in events_of("score", lines)] == [0, 100]
    assert any("stopped early, at 100 of 540" in text for text in texts)


def test_out_of_memory_names_the_params_to_lower(
    run: Callable[..., Any],
) -> None:
    with pytest.raises(FaceganError, match=r"out of memory .*; lower train\.batch_size or train"):
        run(base_channels=10_000_000)


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
    """A limit on file sizes stands for the full disk, from the third checkpoint on."""
    save = trainer.Trainer._save
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    saves = 0

    def limited(self: trainer.Trainer) -> None:
        nonlocal saves
        saves += 1
        if saves == 3:
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
