"""The choice between snapshots whose quick FIDs are close."""

import math
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facegan.core.errors import Interrupted
from facegan.core.events import Message, Progress, silent
from facegan.core.history import best_score, read_history
from facegan.models.files import load_network
from facegan.models.sampling import NotFinite
from facegan.params import Params
from facegan.train import recorder
from facegan.train.checkpoint import load_checkpoint, save_checkpoint
from facegan.train.export import exported
from facegan.train.monitor import Monitor
from facegan.train.stage import train
from samples import digests

CPU = torch.device("cpu")
Run = Callable[..., tuple[list[dict[str, Any]], list[str]]]


class PowerFailure(BaseException):
    pass


@pytest.fixture(name="run")
def make_run(
    dataset: Path, references: tuple[Path, Path], params: Callable[..., Params], tmp_path: Path
) -> Run:
    """Train, and return the history and the messages."""

    def run(
        out: str = "out", until: int | None = None, **options: Any
    ) -> tuple[list[dict[str, Any]], list[str]]:
        texts = list[str]()

        def on_event(event: Any) -> None:
            if isinstance(event, Progress) and event.done == until:
                raise PowerFailure
            texts.extend([event.text] if isinstance(event, Message) else [])

        train(
            dataset, references[0], tmp_path / out, params(train=options).train, 0, CPU,
            tmp_path / f"checkpoints of {out}", on_event,
        )  # fmt: skip
        return read_history(tmp_path / out / "history.jsonl"), texts

    return run


@pytest.fixture
def all_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "CLOSE", 1000.0)


def scored(
    monkeypatch: pytest.MonkeyPatch, quick: list[float], final: list[float]
) -> list[dict[str, torch.Tensor]]:
    """Let quick and final FIDs be these; return the generators, once they have quick FIDs."""
    generators, fids = list[dict[str, torch.Tensor]](), {"quick": iter(quick), "final": iter(final)}

    def quick_fid(_: Monitor, network: nn.Module, __: object) -> float:
        generators.append(network.state_dict())
        return next(fids["quick"])

    def final_fid(*_: object) -> float:
        if (fid := next(fids["final"])) != fid:
            raise NotFinite("generator output contains NaN")
        return fid

    monkeypatch.setattr(Monitor, "quick_fid", quick_fid)
    monkeypatch.setattr(Monitor, "final_fid", final_fid)
    return generators


def choices(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] == "choice"]


def is_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def test_more_images_decide_between_close_quick_fids(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    generators = scored(monkeypatch, [90.0, 10.1, 10.0], [7.0, 8.0])
    lines, texts = run()
    event = {"event": "choice", "images_seen": 280, "contenders": [280, 540], "fids": [7.0, 8.0]}
    assert choices(lines) == [event]
    before, after = texts[-3:-1]
    assert before == (
        "the quick FIDs at 280 and 540 images seen are close; scoring each with 120 other images"
    )
    assert after == "FIDs 7.00 and 8.00; the best generator is that of 280"
    best, _ = load_network(tmp_path / "out" / "generator.safetensors")
    assert is_same(best, generators[1]) and not is_same(best, generators[2])
    assert best_score(lines) == {"event": "score", "images_seen": 280, "quick_fid": 10.1}


def test_a_clear_best_needs_no_choice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(monkeypatch, [90.0, 10.3, 10.0], [])
    lines, _ = run()
    assert choices(lines) == []
    assert best_score(lines)["images_seen"] == 540


@pytest.mark.parametrize(
    ("quick", "contenders"),
    [
        ([9.0, 10.1, 10.2, 10.0, 10.1, 10.05, 10.1], []),
        ([99.0, 10.1, 10.19, 10.0, 10.12, 10.05, 10.3], [100, 300, 500]),
        ([99.0, 10.1, 10.0, 9.0, 9.1, 9.3, 9.2], [300, 400]),
    ],
    ids=["the first is far better", "more than three are close", "close to an earlier best"],
)
def test_the_best_three_of_those_within_two_percent_are_contenders(
    run: Run, monkeypatch: pytest.MonkeyPatch, quick: list[float], contenders: list[int]
) -> None:
    scored(monkeypatch, quick, [3.0, 2.0, 1.0])
    lines, _ = run(eval_interval=100)
    found = choices(lines)
    assert [event["contenders"] for event in found] == ([contenders] if contenders else [])
    assert best_score(lines)["images_seen"] == (contenders[-1] if contenders else 0)


@pytest.mark.parametrize("other", [8.0, float("nan")])
def test_a_contender_whose_images_are_not_finite_is_not_chosen(
    run: Run, monkeypatch: pytest.MonkeyPatch, other: float
) -> None:
    scored(monkeypatch, [90.0, 10.1, 10.0], [float("nan"), other])
    lines, _ = run()
    (choice,) = choices(lines)
    assert choice["fids"] == [None, None if math.isnan(other) else other]
    assert best_score(lines)["images_seen"] == 540


def test_the_final_fid_is_of_other_images_than_the_quick_one(
    run: Run, monkeypatch: pytest.MonkeyPatch, all_close: None
) -> None:
    batches, images_of = list[tuple[int, int]](), Monitor._batches

    def note(self: Monitor, network: nn.Module, window: slice, seed: int) -> Iterator[torch.Tensor]:
        batches.append((seed, window.stop))
        return images_of(self, network, window, seed)

    monkeypatch.setattr(Monitor, "_batches", note)
    run()
    assert batches == 3 * [(30_000_000, 40)] + 3 * [(40_000_000, 100), (40_000_000, 120)]


def test_a_signal_during_the_choice_loses_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, all_close: None
) -> None:
    run("whole")
    final_fid = Monitor.final_fid

    def send(*arguments: Any) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return final_fid(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "final_fid", send)
        with pytest.raises(Interrupted, match=r"stopped at 540 of 540 images seen"):
            run()
    run()
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


@pytest.mark.parametrize("interval", [270, 200], ids=["at an interval", "between two"])
def test_a_longer_training_decides_as_if_it_had_been_that_long(
    run: Run, tmp_path: Path, all_close: None, interval: int
) -> None:
    (first,) = choices(run("whole", epochs=2, eval_interval=interval)[0])
    run(eval_interval=interval)
    assert choices(run(epochs=2, eval_interval=interval)[0]) == [first]
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_after_another_quick_fid_earlier_snapshots_but_the_best_are_no_contenders(
    run: Run, all_close: None
) -> None:
    with pytest.raises(PowerFailure):
        run(until=520, eval_interval=100)
    lines, _ = run(eval_interval=100, quick_num_samples=60)
    (resume,) = (line for line in lines if line["event"] == "resume")
    (choice,) = choices(lines)
    assert choice["contenders"] == [resume["best"]["images_seen"], 540]


def test_a_checkpoint_of_code_without_a_choice_is_resumed(run: Run, tmp_path: Path) -> None:
    with pytest.raises(PowerFailure):
        run(until=300)
    (path,) = (tmp_path / "checkpoints of out").glob("*/checkpoint.pt")
    state = load_checkpoint(path, CPU)
    save_checkpoint({name: value for name, value in state.items() if name != "rivals"}, path)
    assert "resuming from 280 of 540 images seen" in run()[1]


def test_the_folder_of_a_finished_training_has_the_chosen_generator(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scored(monkeypatch, [90.0, 10.1, 10.0], [7.0, 8.0])
    run()
    (folder,) = (path.parent for path in tmp_path.glob("checkpoints of out/*/checkpoint.pt"))
    with exported(folder, silent) as found:
        chosen, _ = load_network(found / "generator.safetensors")
        assert best_score(read_history(found / "history.jsonl"))["images_seen"] == 280
    assert is_same(chosen, load_network(tmp_path / "out" / "generator.safetensors")[0])
